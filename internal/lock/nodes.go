package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Nodes is the Fleet that clusters have: the Node objects.
type Nodes struct {
	Client   kubernetes.Interface
	Selector string // label selector of the pool; empty: all Nodes
}

// asTable asks for what kubectl get prints instead of the objects
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).
const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// Nodes lists the Nodes of the pool in one request. It takes the Table that
// the API server makes for kubectl, a few dozen bytes a Node where the object
// has about ten thousand, from the watch cache (resourceVersion 0), so that
// etcd has no part in it. The answer can be a moment old, which is nothing
// beside the 40 s after which a dead Node is NotReady.
//
// The error is ErrListRefused if the API server forbids it.
func (n Nodes) Nodes(ctx context.Context) ([]Peer, error) {
	var all peers
	for next := ""; ; {
		token, err := n.page(ctx, next, &all)
		switch {
		case apierrors.IsForbidden(err) && answered(err):
			return nil, fmt.Errorf("list nodes: %w: %w", ErrListRefused, err)
		case err != nil:
			return nil, fmt.Errorf("list nodes: %w", err)
		case token == "":
			return all, nil
		case token == next:
			return nil, errors.New("list nodes: the API server gives the same page again and again")
		}
		next = token
	}
}

// page adds a page to all and returns the token of the next one, which is
// empty after the last. From the watch cache there is only one.
func (n Nodes) page(ctx context.Context, token string, all *peers) (string, error) {
	request := n.Client.CoreV1().RESTClient().Get().Resource("nodes").
		SetHeader("Accept", asTable).Param("includeObject", string(metav1.IncludeNone))
	if n.Selector != "" {
		request.Param("labelSelector", n.Selector)
	}
	if token != "" {
		request.Param("continue", token) // names the version itself
	} else {
		request.Param("resourceVersion", "0")
	}
	body, err := request.Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }() // only read
	token, err = all.read(body)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return token, err
}

// peers are read from Tables row by row, so that thousands of Nodes are never
// in memory as text.
type peers []Peer

// read adds the rows of a meta.k8s.io/v1 Table of Nodes and returns its
// continue token. What is no complete such Table is an error: Nodes that are
// left out would be unavailable ones that do not count.
func (all *peers) read(table io.Reader) (token string, err error) {
	in := json.NewDecoder(table)
	if err := expect(in, json.Delim('{')); err != nil {
		return "", err
	}
	var (
		at     columns
		isKind bool
		rows   bool
	)
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return "", noTable(err)
		}
		switch key {
		case "kind":
			var kind string
			if err := in.Decode(&kind); err != nil {
				return "", noTable(err)
			}
			if kind != "Table" { // at once: an old server would send the objects, many megabytes
				return "", fmt.Errorf("the API server answers with a %q where a Table was asked for", kind)
			}
			isKind = true
		case "metadata":
			var meta metav1.ListMeta
			if err := in.Decode(&meta); err != nil {
				return "", noTable(err)
			}
			token = meta.Continue
		case "columnDefinitions":
			if at, err = findColumns(in); err != nil {
				return "", err
			}
		case "rows":
			if at == nil {
				return "", noTable(errors.New("rows before their columns"))
			}
			if err := all.readRows(in, at); err != nil {
				return "", err
			}
			rows = true
		default:
			var other json.RawMessage
			if err := in.Decode(&other); err != nil {
				return "", noTable(err)
			}
		}
	}
	if err := expect(in, json.Delim('}')); err != nil {
		return "", err
	}
	if !isKind || !rows {
		return "", noTable(errors.New("its kind or its rows are missing"))
	}
	return token, nil
}

// The columns that are looked at, by their names in the Table
// (pkg/printers/internalversion/printers.go in kubernetes).
const (
	nameColumn = iota
	statusColumn
	rolesColumn
)

// columns has the place in a row of each column that is looked at.
type columns []int

func findColumns(in *json.Decoder) (columns, error) {
	var defined []struct {
		Name string `json:"name"`
	}
	if err := in.Decode(&defined); err != nil {
		return nil, noTable(err)
	}
	at := columns{nameColumn: -1, statusColumn: -1, rolesColumn: -1}
	for place, column := range defined {
		switch column.Name {
		case "Name":
			at[nameColumn] = place
		case "Status":
			at[statusColumn] = place
		case "Roles":
			at[rolesColumn] = place
		}
	}
	if slices.Min(at) < 0 {
		return nil, noTable(errors.New("it lacks one of the columns Name, Status and Roles"))
	}
	return at, nil
}

func (all *peers) readRows(in *json.Decoder, at columns) error {
	switch open, err := in.Token(); {
	case err != nil:
		return noTable(err)
	case open == nil: // null: no Nodes
		return nil
	case open != json.Delim('['):
		return noTable(errors.New("its rows are no list"))
	}
	var row struct { // of all rows: their cells use the same memory
		Cells []json.RawMessage `json:"cells"`
	}
	for in.More() {
		row.Cells = row.Cells[:0]
		if err := in.Decode(&row); err != nil {
			return noTable(err)
		}
		if len(row.Cells) <= slices.Max(at) {
			return noTable(errors.New("a row lacks cells"))
		}
		name := text(row.Cells[at[nameColumn]])
		if name == "" {
			return noTable(errors.New("a row has no name"))
		}
		*all = append(*all, newPeer(name, text(row.Cells[at[statusColumn]]), text(row.Cells[at[rolesColumn]])))
	}
	return expect(in, json.Delim(']'))
}

// text is the string in a cell, empty if there is another value.
func text(cell json.RawMessage) string {
	if len(cell) >= 2 && cell[0] == '"' && bytes.IndexByte(cell, '\\') < 0 {
		return string(cell[1 : len(cell)-1])
	}
	var s string
	if json.Unmarshal(cell, &s) != nil {
		return ""
	}
	return s
}

// newPeer reads the cells of a Node: "Ready", "NotReady" or "Unknown", then
// ",SchedulingDisabled" if it is cordoned; and its roles, joined by commas.
// With any other word it is not Ready.
func newPeer(name, state, roles string) Peer {
	p := Peer{
		Name:     name,
		Ready:    state == "Ready" || state == "Ready,SchedulingDisabled",
		Cordoned: slices.Contains(strings.Split(state, ","), "SchedulingDisabled"),
	}
	for role := range strings.SplitSeq(roles, ",") {
		if role == "control-plane" || role == "master" || role == "etcd" {
			p.ControlPlane = true
		}
	}
	return p
}

func expect(in *json.Decoder, want json.Delim) error {
	got, err := in.Token()
	if err != nil {
		return noTable(err)
	}
	if got != want {
		return noTable(fmt.Errorf("%v instead of %v", got, want))
	}
	return nil
}

func noTable(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // an answer that ends early is no answer
	}
	return fmt.Errorf("the answer is not the expected Table: %w", err)
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// simulate takes the figures that the simulation of the lock prints: thousands
// of nodes in virtual time, which no machine has room for.
func simulate(ctx context.Context) (section, error) {
	c := exec.CommandContext(ctx, "go", "test", "./internal/sim", "-run", "TestScale", "-v", "-count=1", "-timeout", "30m")
	output, err := c.CombinedOutput()
	if err != nil {
		return section{}, fmt.Errorf("%w: %s", err, output[max(0, len(output)-2000):])
	}
	return readSimulated(output)
}

// ofSo splits the name of a figure of a number of nodes.
var ofSo = regexp.MustCompile(`^([0-9,]+) nodes: (.+)$`)

// readSimulated makes a table of the lines "figure: NAME | BUDGET | MEASURED |
// ok, OVER or –", with a column for each number of nodes, where NAME is
// "NUMBER nodes: WHAT".
func readSimulated(output []byte) (section, error) {
	s := section{title: "The lock in large fleets, simulated", header: []string{"figure", "budget"}}
	var names []string
	rows := map[string]map[string]string{} // by what, then by column
	budgets := map[string]string{}
	for line := range bytes.Lines(output) {
		_, text, ok := strings.Cut(string(line), "figure: ")
		if !ok {
			continue
		}
		fields := strings.Split(text, "|")
		if len(fields) != 4 {
			return s, fmt.Errorf("a figure of the simulation is not of four fields: %q", text)
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		match := ofSo.FindStringSubmatch(fields[0])
		if match == nil {
			return s, fmt.Errorf("a figure of the simulation does not say of how many nodes: %q", text)
		}
		column, what := match[1]+" nodes", match[2]
		if rows[what] == nil {
			names = append(names, what)
			rows[what] = map[string]string{}
			budgets[what] = fields[1]
		}
		if !slices.Contains(s.header, column) {
			s.header = append(s.header, column)
		}
		v := noBudget
		if strings.Contains(fields[3], "OVER") {
			v = over
			s.over = append(s.over, fmt.Sprintf("%s: %s, budget %s", fields[0], fields[2], fields[1]))
		}
		rows[what][column] = cell(fields[2], v)
	}
	if len(names) == 0 {
		return s, errors.New("the simulation prints no figures")
	}
	for _, what := range names {
		row := []string{what, budgets[what]}
		for _, column := range s.header[2:] {
			row = append(row, cell(rows[what][column], noBudget))
		}
		s.rows = append(s.rows, row)
	}
	return s, nil
}

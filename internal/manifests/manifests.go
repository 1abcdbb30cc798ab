// Package manifests makes what has to be applied to a cluster of the shipped
// manifests: as they are, byte for byte, or with other names and a lock for
// each pool of nodes. Nothing is asked of anybody.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kured-host/kured/packaging/kubernetes"
)

// Identity is the credential that kured has on the nodes.
type Identity string

// The identities.
const (
	Kubelet   Identity = "kubelet"   // the kubelet's own
	Dedicated Identity = "dedicated" // one of kured's own for each node
)

// Identities are all of them.
func Identities() []Identity { return []Identity{Kubelet, Dedicated} }

// Names in the shipped manifests, which are the defaults of kured.toml, too.
const (
	DefaultNamespace = "kube-system"
	DefaultName      = "kured-lock"
	DefaultPolicy    = "kured-policy"
)

// Pool is nodes that take turns among themselves, by a lock of their own.
type Pool struct {
	Name     string // a DNS label
	Selector string // of the pool's nodes, as kubectl has it
}

// ParsePool reads NAME=SELECTOR, such as web=pool=web.
func ParsePool(text string) (Pool, error) {
	name, selector, ok := strings.Cut(text, "=")
	p := Pool{Name: name, Selector: selector}
	if !ok || selector == "" {
		return p, fmt.Errorf("%q is not NAME=SELECTOR, such as web=pool=web", clip(text))
	}
	if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
		return p, fmt.Errorf("%q: the name of a pool is of small letters, digits and \"-\"", clip(text))
	}
	if _, err := labels.Parse(selector); err != nil {
		return p, fmt.Errorf("%q: the selector: %s", clip(text), clip(err.Error()))
	}
	if strings.ContainsFunc(selector, unicode.IsControl) { // would end the comment that it is shown in
		return p, fmt.Errorf("%q: the selector is not one line", clip(text))
	}
	return p, nil
}

// Options say what is wanted. The zero value of a name is the shipped one.
type Options struct {
	Identity  Identity // "": Kubelet
	Namespace string   // of the locks and the policy
	Name      string   // of the lock; with pools, what their locks' names begin with
	Policy    string   // one for all locks of the cluster
	Pools     []Pool   // none: one lock for all nodes
	Wall      bool     // with wall.yaml
}

// LockName is the name of a pool's lock.
func (o Options) LockName(p Pool) string { return o.named(o.Name, DefaultName) + "-" + p.Name }

func (Options) named(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// Render returns the manifests as YAML documents in the order in which they are
// to be applied. What the options do not change is as it is shipped, with its
// comments; with all defaults that is every byte.
func Render(o Options) ([]byte, error) {
	o.Identity = Identity(o.named(string(o.Identity), string(Kubelet)))
	o.Namespace = o.named(o.Namespace, DefaultNamespace)
	o.Name = o.named(o.Name, DefaultName)
	o.Policy = o.named(o.Policy, DefaultPolicy)
	if err := o.check(); err != nil {
		return nil, err
	}
	files := [][]byte{kubernetes.Base()}
	if o.Wall {
		files = append(files, kubernetes.Wall())
	}
	if o.Identity == Dedicated {
		files = append(files, kubernetes.Identity())
	}
	if o.Namespace == DefaultNamespace && o.Name == DefaultName && o.Policy == DefaultPolicy && len(o.Pools) == 0 {
		return bytes.Join(files, []byte("---\n")), nil
	}
	var out [][]byte
	for _, file := range files {
		documents, err := o.rewrite(file)
		if err != nil {
			return nil, err
		}
		out = append(out, documents...)
	}
	return append([]byte(o.head()), bytes.Join(out, []byte("---\n"))...), nil
}

func (o Options) check() error {
	var errs []error
	if !slices.Contains(Identities(), o.Identity) {
		errs = append(errs, fmt.Errorf("identity %q: must be %s or %s", clip(string(o.Identity)), Kubelet, Dedicated))
	}
	if wrong := validation.IsDNS1123Label(o.Namespace); len(wrong) > 0 {
		errs = append(errs, fmt.Errorf("namespace %q: %s", clip(o.Namespace), wrong[0]))
	}
	for _, name := range append(o.locks(), o.Policy) {
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
			errs = append(errs, fmt.Errorf("name %q: %s", clip(name), wrong[0]))
		}
	}
	names := append(o.locks(), o.Policy)
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		errs = append(errs, fmt.Errorf("each lock and the policy need a name of their own, these are %s", strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}

// locks are the names of all locks.
func (o Options) locks() []string {
	if len(o.Pools) == 0 {
		return []string{o.Name}
	}
	names := make([]string, len(o.Pools))
	for i, p := range o.Pools {
		names[i] = o.LockName(p)
	}
	return names
}

// head says how nodes are told of these names.
func (o Options) head() string {
	var b strings.Builder
	b.WriteString("# Made by \"kured manifests\" of the manifests that kured ships. Apply it as an administrator:\n#\n#     kured manifests ... | kubectl apply --server-side -f -\n#\n")
	lock := func(name, selector string) {
		fmt.Fprintf(&b, "#     [lock]\n#     namespace = %q\n#     name = %q\n#     policy = %q\n", o.Namespace, name, o.Policy)
		if selector != "" {
			fmt.Fprintf(&b, "#     node_selector = %q\n", selector)
		}
	}
	if len(o.Pools) == 0 {
		b.WriteString("# On the nodes, in /etc/kured/kured.toml:\n")
		lock(o.Name, "")
	}
	for _, p := range o.Pools {
		fmt.Fprintf(&b, "# On the nodes of the pool %s, in /etc/kured/kured.toml:\n", p.Name)
		lock(o.LockName(p), p.Selector)
	}
	if len(o.Pools) > 0 {
		b.WriteString("#\n# A key of the policy that ends in the name of a lock is for that pool alone, such as \"max." + o.LockName(o.Pools[0]) + "\".\n")
		b.WriteString("# Every node may take part in each of these locks: which one is its own is said by its kured.toml.\n")
	}
	b.WriteString("---\n")
	return b.String()
}

// clip bounds text of others in an error.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

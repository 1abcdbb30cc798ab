package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

func shipped(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// With the defaults it is what is shipped, each byte of it.
func TestShipped(t *testing.T) {
	tests := []struct {
		name  string
		o     Options
		files []string
	}{
		{"without a wall", Options{}, []string{"kured.yaml"}},
		{"kubelet", Options{Identity: Kubelet, Wall: true}, []string{"kured.yaml", "wall.yaml"}},
		{"dedicated", Options{Identity: Dedicated, Namespace: DefaultNamespace, Name: DefaultName, Policy: DefaultPolicy, Wall: true},
			[]string{"kured.yaml", "wall.yaml", "identity.yaml"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want [][]byte
			for _, file := range test.files {
				want = append(want, shipped(t, file))
			}
			got, err := Render(test.o)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, bytes.Join(want, []byte("---\n"))) {
				t.Error("differs from what is shipped")
			}
		})
	}
}

// objects are those of YAML documents, by "Kind namespace/name".
func objects(t *testing.T, text []byte) map[string]unstructured.Unstructured {
	t.Helper()
	all := map[string]unstructured.Unstructured{}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		u := unstructured.Unstructured{}
		if err := sigsyaml.UnmarshalStrict(document, &u.Object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if len(u.Object) > 0 {
			key := u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
			if _, twice := all[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			all[key] = u
		}
	}
}

// Other names are everywhere where the shipped ones were, and only there.
func TestRenamed(t *testing.T) {
	o := Options{Identity: Dedicated, Namespace: "ops", Name: "turns", Policy: "limits", Wall: true,
		Pools: []Pool{{"web", "pool=web"}, {"db", "pool in (db, cache)"}}}
	text, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	got := objects(t, text)
	for _, key := range []string{
		"ConfigMap ops/turns-web", "ConfigMap ops/turns-db", "ConfigMap ops/limits", "Role ops/turns", "RoleBinding ops/turns",
		"RoleBinding ops/turns-own-identity", "ServiceAccount kube-system/kured", "ValidatingAdmissionPolicy /kured-lock",
	} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s", key)
		}
	}
	plain, err := Render(Options{Identity: Dedicated, Wall: true})
	if err != nil {
		t.Fatal(err)
	}
	was := objects(t, plain)
	if want := len(was) + 1; len(got) != want {
		t.Errorf("%d objects, want %d: one lock more", len(got), want)
	}
	for key, u := range was { // that name no lock
		text := fmt.Sprint(u.Object)
		if !strings.Contains(text, DefaultName) && !strings.Contains(text, DefaultPolicy) && !reflect.DeepEqual(got[key].Object, u.Object) {
			t.Errorf("%s is not as it was", key)
		}
	}
	for key, u := range got {
		content, err := sigsyaml.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSpace(line)
			if strings.HasSuffix(line, DefaultPolicy) || u.GetKind() != "ValidatingAdmissionPolicy" &&
				u.GetKind() != "ValidatingAdmissionPolicyBinding" && strings.HasSuffix(line, DefaultName) {
				t.Errorf("%s still has %q", key, line)
			}
		}
	}
	role := got["Role ops/turns"]
	rules, _, err := unstructured.NestedSlice(role.Object, "rules")
	if err != nil {
		t.Fatal(err)
	}
	names, _, err := unstructured.NestedStringSlice(rules[0].(map[string]any), "resourceNames")
	if err != nil || len(names) != 2 || names[0] != "turns-web" || names[1] != "turns-db" {
		t.Errorf("the Role names %q, %v", names, err)
	}
	for _, part := range []string{
		`#     node_selector = "pool in (db, cache)"`, `#     name = "turns-web"`,
		"# The one form of an entry, RE2", // a comment in a document that is as shipped
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("nothing says %s", part)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, o := range []Options{
		{Identity: "root"}, {Namespace: "kube_system"}, {Name: "Lock"}, {Policy: "a b"}, {Name: "x", Policy: "x"},
		{Pools: []Pool{{"a", "x"}, {"a", "y"}}}, {Name: "turns", Policy: "turns-a", Pools: []Pool{{"a", "x"}}},
		{Name: strings.Repeat("a", 253), Pools: []Pool{{"a", "x"}}}, {Namespace: "x\n---\nkind: Secret"},
	} {
		if text, err := Render(o); err == nil || text != nil {
			t.Errorf("%+v is not refused", o)
		}
	}
}

func TestParsePool(t *testing.T) {
	for text, want := range map[string]Pool{
		"web=pool=web":     {"web", "pool=web"},
		"db=pool in (a,b)": {"db", "pool in (a,b)"},
		"gpu=!cpu":         {"gpu", "!cpu"},
	} {
		if got, err := ParsePool(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "web", "web=", "=pool=web", "Web=a=b", "a.b=c=d", "web=pool=web=x", "web=a\n=b"} {
		if p, err := ParsePool(text); err == nil {
			t.Errorf("%q is %+v", text, p)
		}
	}
}

// FuzzPool: what is taken can be rendered and stays two objects' names and a
// comment, whatever is in it.
func FuzzPool(f *testing.F) {
	f.Add("web=pool=web")
	f.Add("db=pool in (a,b)")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePool(text)
		if err != nil {
			return
		}
		out, err := Render(Options{Pools: []Pool{p}})
		if err != nil {
			return // too long for a name
		}
		lock, ok := objects(t, out)["ConfigMap kube-system/kured-lock-"+p.Name]
		if !ok || lock.GetAnnotations()["kured.dev/node-selector"] != p.Selector {
			t.Errorf("%q makes no such lock", text)
		}
	})
}

package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// rewrite returns the documents of one file with the names of the options. A
// document that has none of them stays as it is, with its comments.
func (o Options) rewrite(file []byte) ([][]byte, error) {
	var out [][]byte
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the shipped manifest: %w", err)
		}
		object := unstructured.Unstructured{}
		if err := sigsyaml.Unmarshal(document, &object.Object); err != nil {
			return nil, fmt.Errorf("read the shipped manifest: %w", err)
		}
		if len(object.Object) == 0 {
			continue // comments on the whole file, in which the names are others
		}
		objects, err := o.edit(object)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		for _, changed := range objects {
			text := document
			if !reflect.DeepEqual(changed.Object, object.Object) {
				if text, err = sigsyaml.Marshal(changed.Object); err != nil {
					return nil, fmt.Errorf("encode %s %s: %w", object.GetKind(), object.GetName(), err)
				}
			}
			out = append(out, text)
		}
	}
}

// edit returns what becomes of one shipped object: mostly itself with other
// names, and of the lock one for each pool. Rights and admission policies name
// no pool: a node may take part in each lock, and the wall knows a lock by its
// labels.
func (o Options) edit(shipped unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	object := *shipped.DeepCopy()
	one := func(err error) ([]unstructured.Unstructured, error) {
		return []unstructured.Unstructured{object}, err
	}
	switch kind := object.GetKind(); {
	case kind == "ConfigMap" && object.GetName() == DefaultName:
		return o.lockObjects(object)
	case kind == "ConfigMap":
		object.SetName(o.Policy)
		object.SetNamespace(o.Namespace)
	case kind == "Role" && object.GetName() == DefaultName:
		object.SetName(o.Name)
		object.SetNamespace(o.Namespace)
		return one(o.renameRules(object))
	case kind == "RoleBinding":
		role, _, err := unstructured.NestedString(object.Object, "roleRef", "name")
		if err != nil || role != DefaultName {
			return one(err) // of another Role, which is not about the lock
		}
		// "kured-lock-own-identity" of identity.yaml keeps its end.
		object.SetName(o.Name + strings.TrimPrefix(object.GetName(), DefaultName))
		object.SetNamespace(o.Namespace)
		return one(unstructured.SetNestedField(object.Object, o.Name, "roleRef", "name"))
	case kind == "ClusterRole":
		return one(o.renameRules(object))
	case kind == "ValidatingAdmissionPolicyBinding":
		name, found, err := unstructured.NestedString(object.Object, "spec", "paramRef", "name")
		if err == nil && found && name == DefaultPolicy {
			err = unstructured.SetNestedField(object.Object, o.Policy, "spec", "paramRef", "name")
		}
		return one(err)
	}
	// The ServiceAccount of identity.yaml stays where the admission policies know it.
	return one(nil)
}

// lockObjects are the locks of all pools.
func (o Options) lockObjects(shipped unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	var out []unstructured.Unstructured
	for i, name := range o.locks() {
		object := *shipped.DeepCopy()
		object.SetName(name)
		object.SetNamespace(o.Namespace)
		if len(o.Pools) > 0 {
			annotations := object.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations["kured.dev/node-selector"] = o.Pools[i].Selector
			object.SetAnnotations(annotations)
		}
		out = append(out, object)
	}
	return out, nil
}

// renameRules replaces the names of the lock and the policy in rules.
func (o Options) renameRules(object unstructured.Unstructured) error {
	rules, _, err := unstructured.NestedSlice(object.Object, "rules")
	if err != nil {
		return err
	}
	for _, rule := range rules {
		fields, ok := rule.(map[string]any)
		if !ok {
			return fmt.Errorf("a rule is of type %T", rule)
		}
		names, found, err := unstructured.NestedStringSlice(fields, "resourceNames")
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		var renamed []string
		for _, name := range names {
			switch name {
			case DefaultName:
				renamed = append(renamed, o.locks()...)
			case DefaultPolicy:
				renamed = append(renamed, o.Policy)
			default:
				renamed = append(renamed, name)
			}
		}
		if err := unstructured.SetNestedStringSlice(fields, renamed, "resourceNames"); err != nil {
			return err
		}
	}
	return unstructured.SetNestedSlice(object.Object, rules, "rules")
}

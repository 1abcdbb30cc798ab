package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// Apply creates or changes, as the administrator and by server-side apply, each
// object of the YAML documents in their order. A namespaced object without a
// namespace goes to "default".
//
// What an authorizer or an admission policy makes of an object takes effect an
// instant later: their caches are fed by watches.
func (cp *ControlPlane) Apply(ctx context.Context, manifests []byte) error {
	client, err := dynamic.NewForConfig(cp.AdminConfig())
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(cp.client.Discovery()))
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		if len(object.Object) == 0 {
			continue // a document of comments only
		}
		if err := apply(ctx, client, mapper, object); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}

func apply(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	resources := client.Resource(mapping.Resource)
	options := metav1.ApplyOptions{FieldManager: "kured-testenv", Force: true}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		_, err = resources.Apply(ctx, object.GetName(), object, options)
		return err
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(metav1.NamespaceDefault)
	}
	_, err = resources.Namespace(object.GetNamespace()).Apply(ctx, object.GetName(), object, options)
	return err
}

package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// Decode splits multi-document YAML or JSON into objects. Empty documents are
// left out, Lists are taken apart. Errors name the document, counted from 1.
func Decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for n := 1; ; n++ {
		var raw map[string]any
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("manifest %d: %w", n, err)
		}
		if len(raw) == 0 {
			continue
		}
		found, err := flatten(&unstructured.Unstructured{Object: raw})
		if err != nil {
			return nil, fmt.Errorf("manifest %d: %w", n, err)
		}
		objects = append(objects, found...)
	}
}

// flatten returns the object itself, or what a List holds.
func flatten(u *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if _, ok := u.Object["items"].([]any); ok && u.GetKind() != "" {
		list, err := u.ToList()
		if err != nil {
			return nil, err
		}
		var all []*unstructured.Unstructured
		for i := range list.Items {
			inner, err := flatten(&list.Items[i])
			if err != nil {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
			all = append(all, inner...)
		}
		return all, nil
	}
	switch {
	case u.GetAPIVersion() == "":
		return nil, errors.New("apiVersion is missing")
	case u.GetKind() == "":
		return nil, errors.New("kind is missing")
	case u.GetName() == "":
		return nil, fmt.Errorf("%s without metadata.name", u.GetKind())
	}
	return []*unstructured.Unstructured{u}, nil
}

// Apply applies each object of multi-document YAML on the server's side, in
// the order given, as field manager "meshsim"; fields that another manager
// owns are taken over. Objects without a namespace go to the one given.
func (c *Client) Apply(ctx context.Context, manifests []byte, namespace string) error {
	objects, err := Decode(manifests)
	if err != nil {
		return err
	}
	for _, u := range objects {
		if err := c.ApplyObject(ctx, u, namespace); err != nil {
			return err
		}
	}
	return nil
}

// ApplyObject is Apply for one object that is already decoded.
func (c *Client) ApplyObject(ctx context.Context, u *unstructured.Unstructured, namespace string) error {
	resource, err := c.resourceFor(u, namespace)
	if err != nil {
		return err
	}
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode %s: %w", describe(u), err)
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: FieldManager, Force: &force}
	if _, err := resource.Patch(ctx, u.GetName(), types.ApplyPatchType, body, opts); err != nil {
		return fmt.Errorf("apply %s: %w", describe(u), err)
	}
	return nil
}

// DryRun sends an object to the server, which runs every admission webhook and
// stores nothing. It returns the object as it would have been stored.
func (c *Client) DryRun(ctx context.Context, u *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
	resource, err := c.resourceFor(u, namespace)
	if err != nil {
		return nil, err
	}
	out, err := resource.Create(ctx, u, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: FieldManager,
	})
	if err != nil {
		return nil, fmt.Errorf("dry-run create of %s: %w", describe(u), err)
	}
	return out, nil
}

// Delete removes each object of multi-document YAML, last first, with what
// depends on it. What is not there, nor its kind, is no error.
func (c *Client) Delete(ctx context.Context, manifests []byte, namespace string) error {
	objects, err := Decode(manifests)
	if err != nil {
		return err
	}
	return c.DeleteObjects(ctx, objects, namespace)
}

// DeleteObjects is Delete for objects that are already decoded; only their
// kinds, names and namespaces count.
func (c *Client) DeleteObjects(ctx context.Context, objects []*unstructured.Unstructured, namespace string) error {
	// Once for all: where a mesh is gone, most kinds are.
	c.Mapper.Reset()
	var failed []error
	for _, u := range slices.Backward(objects) {
		failed = append(failed, c.delete(ctx, u, namespace))
	}
	return errors.Join(failed...)
}

func (c *Client) delete(ctx context.Context, u *unstructured.Unstructured, namespace string) error {
	resource, err := c.knownResource(u, namespace)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	err = resource.Delete(ctx, u.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", describe(u), err)
	}
	return nil
}

// resourceFor finds where an object's kind is served. A kind that is not known
// may have been installed since discovery was last read, so it is read again once.
func (c *Client) resourceFor(u *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	resource, err := c.knownResource(u, namespace)
	if meta.IsNoMatchError(err) {
		c.Mapper.Reset()
		return c.knownResource(u, namespace)
	}
	return resource, err
}

func (c *Client) knownResource(u *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	gvk := u.GroupVersionKind()
	mapping, err := c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("find the API of %s: %w", describe(u), err)
	}
	resource := c.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return resource, nil
	}
	if ns := u.GetNamespace(); ns != "" {
		namespace = ns
	}
	if namespace == "" {
		return nil, fmt.Errorf("%s needs a namespace", describe(u))
	}
	return resource.Namespace(namespace), nil
}

func describe(u *unstructured.Unstructured) string {
	name := u.GetName()
	if ns := u.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return u.GetKind() + " " + name
}

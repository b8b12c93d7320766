package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Owner is what a pod belongs to at last: a ReplicaSet's Deployment rather
// than the ReplicaSet.
type Owner struct {
	APIVersion string
	Kind       string // Deployment, StatefulSet, DaemonSet, Job, …, Pod
	Name       string
	UID        types.UID
}

// Owners finds owners and remembers those of ReplicaSets, which never change.
type Owners struct {
	client *Client
	mu     sync.Mutex
	known  map[types.UID]Owner // by the ReplicaSet's UID
}

// maxKnown bounds the memory; what is forgotten is asked again.
const maxKnown = 4096

// NewOwners makes an Owners. A nil client answers from the pod alone.
func NewOwners(client *Client) *Owners {
	return &Owners{client: client, known: map[types.UID]Owner{}}
}

// Of is the owner of a pod of that metadata in namespace. When the API does
// not answer, the direct owner is returned beside the error.
func (o *Owners) Of(ctx context.Context, namespace string, meta *metav1.ObjectMeta) (Owner, error) {
	ref := metav1.GetControllerOf(meta)
	if ref == nil {
		return Owner{APIVersion: "v1", Kind: "Pod", Name: meta.Name, UID: meta.UID}, nil
	}
	direct := Owner{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: ref.UID}
	if ref.Kind != "ReplicaSet" || o.client == nil {
		return direct, nil
	}
	o.mu.Lock()
	known, ok := o.known[ref.UID]
	o.mu.Unlock()
	if ok {
		return known, nil
	}
	up, err := controllerOf(ctx, o.client.apps, "replicasets", namespace, ref.Name)
	if err != nil {
		return direct, err
	}
	owner := direct
	if up != nil {
		owner = Owner{APIVersion: up.APIVersion, Kind: up.Kind, Name: up.Name, UID: up.UID}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) >= maxKnown {
		clear(o.known)
	}
	o.known[ref.UID] = owner
	return owner, nil
}

func controllerOf(ctx context.Context, c *rest.RESTClient, resource, namespace, name string) (*metav1.OwnerReference, error) {
	raw, err := c.Get().Namespace(namespace).Resource(resource).Name(name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json").
		Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", resource, namespace, name, err)
	}
	var obj metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &obj); err != nil {
		return nil, fmt.Errorf("decode %s %s/%s: %w", resource, namespace, name, err)
	}
	return metav1.GetControllerOf(&obj), nil
}

// OwnerLabel tells the kind in lower case and the name of what owns a pod
// without asking the API: a Deployment's name is its ReplicaSet's without the hash.
func OwnerLabel(pod *corev1.Pod) (kind, name string) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return "", ""
	}
	if ref.Kind == "ReplicaSet" {
		if hash := pod.Labels["pod-template-hash"]; hash != "" {
			if name, ok := strings.CutSuffix(ref.Name, "-"+hash); ok {
				return "deployment", name
			}
		}
	}
	return strings.ToLower(ref.Kind), ref.Name
}

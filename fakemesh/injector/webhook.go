package injector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/fakemesh/admit"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
)

// Cluster is what the webhook asks of Kubernetes.
type Cluster interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
}

// Owners finds what a pod belongs to.
type Owners interface {
	Of(ctx context.Context, namespace string, meta *metav1.ObjectMeta) (kubeapi.Owner, error)
}

// Recorder writes events about a pod's owner.
type Recorder interface {
	Normal(ref *corev1.ObjectReference, reason, message string)
}

// Reasons of events.
const (
	ReasonInjected = "Injected"
	ReasonSkipped  = "InjectionSkipped"
)

// Webhook answers admission reviews of pods and Services.
type Webhook struct {
	ConfigFile  string // read anew for each object, so that changed values count at once
	AnchorsFile string
	Namespace   string // of the control plane
	Cluster     Cluster
	Owners      Owners
	Recorder    Recorder
	Log         *slog.Logger
}

// ServeHTTP implements the webhook's HTTP side.
func (w *Webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	admit.Handler(w.Review, w.Log).ServeHTTP(rw, r)
}

// Review decides on one object. What is neither pod nor Service is let through
// as it is.
func (w *Webhook) Review(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	allowed := &admissionv1.AdmissionResponse{Allowed: true}
	tell := w.Recorder
	if req.DryRun != nil && *req.DryRun {
		tell = silent{}
	}
	var ops []op
	var err error
	switch {
	case req.Kind.Group != "":
	case req.Kind.Kind == "Pod":
		ops, err = w.pod(ctx, req, tell)
	case req.Kind.Kind == "Service":
		ops, err = w.service(ctx, req)
	}
	if err != nil {
		w.Log.Error("an object is refused", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "error", err)
		return refused(err)
	}
	if ops == nil {
		return allowed
	}
	text, err := json.Marshal(ops)
	if err != nil {
		return refused(fmt.Errorf("encode the patch: %w", err))
	}
	kind := admissionv1.PatchTypeJSONPatch
	allowed.Patch, allowed.PatchType = text, &kind
	return allowed
}

// silent is the Recorder of dry runs, which must leave nothing behind.
type silent struct{}

func (silent) Normal(*corev1.ObjectReference, string, string) {}

func refused(err error) *admissionv1.AdmissionResponse {
	return admit.Refuse(http.StatusInternalServerError, err)
}

// service gives a Service the opaque ports of its namespace, or of the mesh.
func (w *Webhook) service(ctx context.Context, req *admissionv1.AdmissionRequest) ([]op, error) {
	svc := &corev1.Service{}
	if err := json.Unmarshal(req.Object.Raw, svc); err != nil {
		return nil, fmt.Errorf("decode the Service: %w", err)
	}
	ns, err := w.Cluster.Namespace(ctx, req.Namespace)
	if err != nil {
		return nil, err
	}
	config, err := w.config()
	if err != nil {
		return nil, err
	}
	return annotate(svc.Annotations, opaqueOfService(config, svc, ns.Annotations)), nil
}

// pod makes the patch of a pod; nil means that it stays as it is.
func (w *Webhook) pod(ctx context.Context, req *admissionv1.AdmissionRequest, tell Recorder) ([]op, error) {
	pod, namespace := &corev1.Pod{}, req.Namespace
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return nil, fmt.Errorf("decode the pod: %w", err)
	}
	ns, err := w.Cluster.Namespace(ctx, namespace)
	if err != nil {
		return nil, err
	}
	config, err := w.config()
	if err != nil {
		return nil, err
	}
	owner, err := w.Owners.Of(ctx, namespace, &pod.ObjectMeta)
	if err != nil {
		w.Log.Warn("a pod's owner is not known", "namespace", namespace, "from", pod.GenerateName, "error", err)
	}
	ref := &corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: namespace, Name: owner.Name, UID: owner.UID,
	}
	if ok, reason := decide(pod, ns.Annotations); !ok {
		w.Log.Info("a pod is not injected", "namespace", namespace, "owner", owner.Name, "reason", reason)
		event(ref, tell, ReasonSkipped, "the proxy was not injected: "+reason)
		return annotate(pod.Annotations, opaqueOfPod(config, pod, ns.Annotations)), nil
	}
	anchors, err := os.ReadFile(w.AnchorsFile)
	if err != nil {
		return nil, fmt.Errorf("read the trust anchors: %w", err)
	}
	ops, ignored := patch(input{
		config: config, anchors: string(anchors), pod: pod, namespace: namespace, mesh: w.Namespace,
		inherited: ns.Annotations, owner: owner,
	})
	for _, what := range ignored {
		w.Log.Warn("ignored: "+what, "namespace", namespace, "owner", owner.Name)
	}
	w.Log.Info("a pod is injected", "namespace", namespace, "owner", owner.Name)
	event(ref, tell, ReasonInjected, "the proxy was injected")
	return ops, nil
}

// A pod that nothing owns does not exist yet; there is nothing to attach an event to.
func event(ref *corev1.ObjectReference, tell Recorder, reason, message string) {
	if ref.Name == "" {
		return
	}
	tell.Normal(ref, reason, message)
}

// config is read anew for each object.
func (w *Webhook) config() (*Config, error) {
	text, err := os.ReadFile(w.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("read the mesh's values: %w", err)
	}
	return ParseConfig(text)
}

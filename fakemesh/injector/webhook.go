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
	Warning(ref *corev1.ObjectReference, reason, message string)
}

// Reasons of events.
const (
	ReasonInjected = "Injected"
	ReasonSkipped  = "InjectionSkipped"
)

// Webhook answers admission reviews of pods.
type Webhook struct {
	ConfigFile  string // read anew for each pod, so that changed values count at once
	AnchorsFile string
	Cluster     Cluster
	Owners      Owners
	Recorder    Recorder
	Log         *slog.Logger
}

// ServeHTTP implements the webhook's HTTP side.
func (w *Webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	admit.Handler(w.Review, w.Log).ServeHTTP(rw, r)
}

// Review decides on one object. What is no pod is let through as it is.
func (w *Webhook) Review(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	allowed := &admissionv1.AdmissionResponse{Allowed: true}
	if req.Kind.Kind != "Pod" || req.Kind.Group != "" {
		return allowed
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return refused(fmt.Errorf("decode the pod: %w", err))
	}
	tell := w.Recorder
	if req.DryRun != nil && *req.DryRun {
		tell = silent{}
	}
	ops, err := w.inject(ctx, req.Namespace, pod, tell)
	if err != nil {
		w.Log.Error("a pod is refused", "namespace", req.Namespace, "pod", pod.Name, "from", pod.GenerateName, "error", err)
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

func (silent) Normal(*corev1.ObjectReference, string, string)  {}
func (silent) Warning(*corev1.ObjectReference, string, string) {}

func refused(err error) *admissionv1.AdmissionResponse {
	return admit.Refuse(http.StatusInternalServerError, err)
}

// inject makes the patch; nil means that the pod stays as it is.
func (w *Webhook) inject(ctx context.Context, namespace string, pod *corev1.Pod, tell Recorder) ([]op, error) {
	ns, err := w.Cluster.Namespace(ctx, namespace)
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
	ok, reason := decide(pod, ns.Annotations)
	if !ok {
		w.Log.Info("a pod is not injected", "namespace", namespace, "owner", owner.Name, "reason", reason)
		event(ref, tell.Normal, ReasonSkipped, "the proxy was not injected: "+reason)
		return nil, nil
	}
	in := input{pod: pod, namespace: namespace, inherited: ns.Annotations, owner: owner}
	if err := w.read(&in); err != nil {
		return nil, err
	}
	ops, err := patch(in)
	if err != nil {
		event(ref, tell.Warning, ReasonSkipped, "the proxy was not injected: "+err.Error())
		return nil, err
	}
	w.Log.Info("a pod is injected", "namespace", namespace, "owner", owner.Name)
	event(ref, tell.Normal, ReasonInjected, "the proxy was injected")
	return ops, nil
}

// A pod that nothing owns does not exist yet; there is nothing to attach an event to.
func event(ref *corev1.ObjectReference, write func(*corev1.ObjectReference, string, string), reason, message string) {
	if ref.Name == "" {
		return
	}
	write(ref, reason, message)
}

func (w *Webhook) read(in *input) error {
	text, err := os.ReadFile(w.ConfigFile)
	if err != nil {
		return fmt.Errorf("read the mesh's values: %w", err)
	}
	if in.config, err = ParseConfig(text); err != nil {
		return err
	}
	anchors, err := os.ReadFile(w.AnchorsFile)
	if err != nil {
		return fmt.Errorf("read the trust anchors: %w", err)
	}
	in.anchors = string(anchors)
	return nil
}

// Package watch writes down what happens to the cluster while traffic flows:
// pods that stop and start, endpoints that come and go, nodes that fall out.
// Attribution looks here for what was near a failed request.
package watch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

// Sink takes one event; the caller adds time and phase.
type Sink func(results.Event)

// Start watches nodes, and the pods, endpoint slices, rollouts, warnings and
// certificates of the namespaces until ctx ends. It returns when the watches are
// in step with the cluster; what was there before is not reported.
func Start(ctx context.Context, client kubernetes.Interface, namespaces []string, sink Sink) error {
	w := &watcher{sink: sink, begun: time.Now()}
	nodes := informers.NewSharedInformerFactory(client, 0)
	if err := w.handle(nodes.Core().V1().Nodes().Informer(), w.node); err != nil {
		return err
	}
	factories := []informers.SharedInformerFactory{nodes}
	for _, ns := range namespaces {
		f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(ns))
		for _, h := range []struct {
			informer cache.SharedIndexInformer
			fn       func(before, after any)
		}{
			{f.Core().V1().Pods().Informer(), w.pod},
			{f.Discovery().V1().EndpointSlices().Informer(), w.slice},
			{f.Core().V1().Events().Informer(), w.happened},
			{f.Apps().V1().Deployments().Informer(), (&rollouts{sink: sink, rolling: map[string]bool{}}).deployment},
		} {
			if err := w.handle(h.informer, h.fn); err != nil {
				return err
			}
		}
		factories = append(factories, f)
	}
	for _, f := range factories {
		f.Start(ctx.Done())
	}
	for _, f := range factories {
		for kind, ok := range f.WaitForCacheSync(ctx.Done()) {
			if !ok {
				return fmt.Errorf("watch %v: %w", kind, context.Cause(ctx))
			}
		}
	}
	return nil
}

type watcher struct {
	sink  Sink
	begun time.Time
}

// handle calls fn with the object before (nil when new) and after (nil when gone).
func (w *watcher) handle(informer cache.SharedIndexInformer, fn func(before, after any)) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) {
			if !initial {
				fn(nil, obj)
			}
		},
		UpdateFunc: fn,
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			fn(obj, nil)
		},
	})
	if err != nil {
		return fmt.Errorf("watch the cluster: %w", err)
	}
	return nil
}

func (w *watcher) pod(before, after any) {
	old, _ := before.(*corev1.Pod)
	now, _ := after.(*corev1.Pod)
	pod, state := now, ""
	switch {
	case old == nil:
		state = results.StateCreated
	case now == nil:
		pod, state = old, results.StateGone
	case old.DeletionTimestamp == nil && now.DeletionTimestamp != nil:
		state = results.StateTerminating
	case !podReady(old) && podReady(now):
		state = results.StateReady
	case restarts(now) > restarts(old):
		state = results.StateRestarted
		if oomKilled(now) {
			state = results.StateOOMKilled
		}
	case podReady(old) && !podReady(now):
		state = results.StateNotReady
	default:
		return
	}
	w.sink(results.Event{Kind: results.Pod, Name: pod.Name, Fields: map[string]string{
		results.FieldState: state, results.FieldService: pod.Labels["app.kubernetes.io/name"],
		results.FieldNode: pod.Spec.NodeName, results.FieldMeshed: strconv.FormatBool(stack.Meshed(pod)), "namespace": pod.Namespace,
	}})
}

func restarts(p *corev1.Pod) (n int32) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func oomKilled(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		t := c.LastTerminationState.Terminated
		return t != nil && t.Reason == "OOMKilled"
	})
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// slice reports each endpoint that became ready or stopped being it.
func (w *watcher) slice(before, after any) {
	old, _ := before.(*discoveryv1.EndpointSlice)
	now, _ := after.(*discoveryv1.EndpointSlice)
	was, is := readyPods(old), readyPods(now)
	service := serviceOf(old, now)
	for pod := range is {
		if !was[pod] {
			w.endpoint(service, pod, results.StateAdded)
		}
	}
	for pod := range was {
		if !is[pod] {
			w.endpoint(service, pod, results.StateRemoved)
		}
	}
}

func (w *watcher) endpoint(service, pod, state string) {
	w.sink(results.Event{Kind: results.Endpoints, Name: service, Fields: map[string]string{
		results.FieldState: state, results.FieldPod: pod, results.FieldService: strings.TrimSuffix(service, "-edge"),
	}})
}

func readyPods(s *discoveryv1.EndpointSlice) map[string]bool {
	ready := map[string]bool{}
	if s == nil {
		return ready
	}
	for _, e := range s.Endpoints {
		if e.TargetRef != nil && e.Conditions.Ready != nil && *e.Conditions.Ready {
			ready[e.TargetRef.Name] = true
		}
	}
	return ready
}

func serviceOf(versions ...*discoveryv1.EndpointSlice) string {
	for _, s := range versions {
		if s != nil {
			return s.Labels[discoveryv1.LabelServiceName]
		}
	}
	return ""
}

func (w *watcher) node(before, after any) {
	old, _ := before.(*corev1.Node)
	now, _ := after.(*corev1.Node)
	switch {
	case old == nil || now == nil:
		return // nodes are raised before and removed after a run
	case nodeReady(old) == nodeReady(now) && old.Spec.Unschedulable == now.Spec.Unschedulable:
		return
	}
	state := results.StateReady
	if !nodeReady(now) {
		state = results.StateNotReady
	}
	w.sink(results.Event{Kind: results.Node, Name: now.Name, Fields: map[string]string{
		results.FieldState: state, "schedulable": fmt.Sprint(!now.Spec.Unschedulable),
	}})
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// certificateKinds are the objects whose events tell how certificates come.
var certificateKinds = []string{"Certificate", "CertificateRequest", "Order", "Issuer", "ClusterIssuer"}

// Reasons of the mesh's own events: its identity's, and its injector's.
var (
	identityReasons = []string{"IssuerUpdated", "IssuerUpdateSkipped", "IssuerValidationFailed", "IssuedLeafCertificate"}
	injectorReasons = []string{"Injected", "InjectionSkipped"}
)

// happened passes on Kubernetes' own events of this run: warnings, and of the
// others those on certificates and on injection.
func (w *watcher) happened(_, after any) {
	e, ok := after.(*corev1.Event)
	if !ok {
		return
	}
	kind := ""
	switch {
	case slices.Contains(certificateKinds, e.InvolvedObject.Kind) || slices.Contains(identityReasons, e.Reason):
		kind = results.Certificate
	case slices.Contains(injectorReasons, e.Reason):
		kind = results.Webhook
	}
	if e.Type == corev1.EventTypeWarning {
		kind = results.Warning
	}
	if kind == "" {
		return
	}
	last := e.LastTimestamp.Time
	if last.IsZero() {
		last = e.EventTime.Time
	}
	if last.Before(w.begun.Add(-time.Second)) {
		return
	}
	w.sink(results.Event{Kind: kind, Name: e.InvolvedObject.Name, Detail: e.Reason + ": " + e.Message, Fields: map[string]string{
		results.FieldObject: e.InvolvedObject.Kind, "namespace": e.InvolvedObject.Namespace,
	}})
}

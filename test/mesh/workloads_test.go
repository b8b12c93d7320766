//go:build conformance

package mesh

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/e2e-framework/klient/k8s"
)

// Ports of the echo servers.
const (
	portHTTP     = 8080
	portGRPC     = 9090
	portTCP      = 7001
	portGreeting = 7000
)

// Names of the contract that rows use again and again.
const (
	annotationInject = "linkerd.io/inject"
	annotationPolicy = "config.linkerd.io/default-inbound-policy"
	annotationOpaque = "config.linkerd.io/opaque-ports"
	annotationWait   = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
	proxyName        = "linkerd-proxy"
	initName         = "linkerd-init"
	trustDomain      = "cluster.local"

	authenticated   = "all-authenticated"
	unauthenticated = "all-unauthenticated"
)

// edit changes a pod before it is made.
type edit func(*corev1.PodTemplateSpec)

func annotate(key, value string) edit {
	return func(p *corev1.PodTemplateSpec) {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[key] = value
	}
}

// meshed asks for a proxy.
func meshed(p *corev1.PodTemplateSpec) { annotate(annotationInject, "enabled")(p) }

// guarded is a meshed pod with a default policy of its own.
func guarded(policy string) edit {
	return func(p *corev1.PodTemplateSpec) {
		meshed(p)
		annotate(annotationPolicy, policy)(p)
	}
}

// probed replaces the readiness probe; nil takes it away.
func probed(probe *corev1.Probe) edit {
	return func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].ReadinessProbe = probe }
}

// grace is how long the pod gets to end, and how long its application waits
// before it is told to.
func grace(seconds int64, preStop time.Duration) edit {
	return func(p *corev1.PodTemplateSpec) {
		p.Spec.TerminationGracePeriodSeconds = &seconds
		if preStop > 0 {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
				Exec: &corev1.ExecAction{Command: []string{"/agent", "sleep", preStop.String()}},
			}}
		}
	}
}

// template is a pod with one agent in it. Each workload has a service account
// of its own name, and so an identity of its own.
func (l *lab) template(name string, args []string, edits []edit) corev1.PodTemplateSpec {
	quick, no := int64(2), false
	p := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			ServiceAccountName:            name,
			AutomountServiceAccountToken:  &no,
			TerminationGracePeriodSeconds: &quick,
			Containers: []corev1.Container{{
				Name: "app", Image: l.image, Args: args,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
				}},
			}},
		},
	}
	for _, e := range edits {
		e(&p)
	}
	return p
}

// server is a Deployment of one echo server that is probed by httpGet.
func (l *lab) server(name string, edits ...edit) *appsv1.Deployment {
	args := []string{
		"echo-server", fmt.Sprintf("--http=:%d", portHTTP), fmt.Sprintf("--grpc=:%d", portGRPC),
		fmt.Sprintf("--tcp=:%d", portTCP), fmt.Sprintf("--greeting=:%d", portGreeting),
	}
	defaults := func(p *corev1.PodTemplateSpec) {
		app := &p.Spec.Containers[0]
		for name, port := range serverPorts {
			app.Ports = append(app.Ports, corev1.ContainerPort{Name: name, ContainerPort: port})
		}
		app.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(portHTTP)},
		}}
	}
	one := int32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.ns},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: l.template(name, args, append([]edit{defaults}, edits...)),
		},
	}
}

var serverPorts = map[string]int32{"http": portHTTP, "grpc": portGRPC, "tcp": portTCP, "greeting": portGreeting}

// client is a pod from which calls are made.
func (l *lab) client(name string, edits ...edit) *corev1.Pod {
	p := l.template(name, []string{"hold"}, edits)
	p.Name, p.Namespace = name, l.ns
	return &corev1.Pod{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
}

// service is the Service of a server. It has the pods' own opaque ports: a
// client's proxy looks at the Service, a server's at the pod.
func (l *lab) service(d *appsv1.Deployment) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name, Namespace: l.ns},
		Spec:       corev1.ServiceSpec{Selector: d.Spec.Selector.MatchLabels},
	}
	if ports := d.Spec.Template.Annotations[annotationOpaque]; ports != "" {
		s.Annotations = map[string]string{annotationOpaque: ports}
	}
	for _, name := range slices.Sorted(maps.Keys(serverPorts)) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: serverPorts[name]})
	}
	return s
}

// account makes a workload's service account where there is none.
func (l *lab) account(ctx context.Context, name string) error {
	err := l.resources.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.ns}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// create makes the objects, with what they need: service accounts, and a
// Service for a Deployment.
func (l *lab) create(ctx context.Context, objects ...k8s.Object) error {
	for _, o := range objects {
		var needs []k8s.Object
		switch o := o.(type) {
		case *appsv1.Deployment:
			needs = append(needs, l.service(o))
		case *corev1.Pod, *appsv1.StatefulSet:
		}
		if err := l.account(ctx, o.GetName()); err != nil {
			return err
		}
		for _, n := range append(needs, o) {
			if err := l.resources.Create(ctx, n); err != nil {
				return fmt.Errorf("make %T %s: %w", n, n.GetName(), err)
			}
		}
	}
	return nil
}

// announce makes what a Deployment needs, for a row that takes the injector
// away before it makes the Deployment itself: the injector is asked about
// Services too.
func (l *lab) announce(ctx context.Context, d *appsv1.Deployment) error {
	if err := l.account(ctx, d.Name); err != nil {
		return err
	}
	return l.resources.Create(ctx, l.service(d))
}

// up makes the objects and waits until all are ready.
func (l *lab) up(ctx context.Context, objects ...k8s.Object) error {
	if err := l.create(ctx, objects...); err != nil {
		return err
	}
	for _, o := range objects {
		if err := l.ready(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) ready(ctx context.Context, o k8s.Object) error {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return l.kube.WaitRollout(ctx, "deployment", l.ns, o.Name)
	case *appsv1.StatefulSet:
		return l.kube.WaitRollout(ctx, "statefulset", l.ns, o.Name)
	case *corev1.Pod:
		return eventually(ctx, prepareWithin, func(ctx context.Context) error {
			pod, err := l.getPod(ctx, o.Name)
			if err != nil {
				return err
			}
			return podReady(pod)
		})
	}
	return fmt.Errorf("%T %s: its readiness is not known", o, o.GetName())
}

func (l *lab) getPod(ctx context.Context, name string) (*corev1.Pod, error) {
	return l.kube.Clientset.CoreV1().Pods(l.ns).Get(ctx, name, metav1.GetOptions{})
}

func podReady(pod *corev1.Pod) error {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	var states []string
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch {
		case s.State.Waiting != nil:
			states = append(states, s.Name+" waits: "+s.State.Waiting.Reason)
		case s.State.Terminated != nil:
			states = append(states, fmt.Sprintf("%s ended with %d", s.Name, s.State.Terminated.ExitCode))
		case !s.Ready:
			states = append(states, s.Name+" is not ready")
		}
	}
	return fmt.Errorf("pod %s is %s: %v", pod.Name, pod.Status.Phase, states)
}

// pods are those of a workload that are not on their way out, oldest first.
func (l *lab) pods(ctx context.Context, app string) ([]corev1.Pod, error) {
	list, err := l.kube.Clientset.CoreV1().Pods(l.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	live := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	slices.SortFunc(live, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return live, nil
}

// pod is the newest of a workload's pods.
func (l *lab) pod(ctx context.Context, app string) (*corev1.Pod, error) {
	live, err := l.pods(ctx, app)
	if err != nil {
		return nil, err
	}
	if len(live) == 0 {
		return nil, fmt.Errorf("%s has no pod", app)
	}
	return &live[len(live)-1], nil
}

func hasContainer(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool { return c.Name == name })
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	i := slices.IndexFunc(all, func(s corev1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// restart rolls a Deployment and waits.
func (l *lab) restart(ctx context.Context, name string) error {
	if err := l.kube.Restart(ctx, "deployment", l.ns, name); err != nil {
		return err
	}
	return l.kube.WaitRollout(ctx, "deployment", l.ns, name)
}

// scale sets the replicas of a Deployment.
func (w *world) scale(ctx context.Context, namespace, name string, replicas int) error {
	return w.kube.PatchWorkload(ctx, "deployment", namespace, name, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
}

// identity is a workload's name in the mesh.
func (l *lab) identity(account string) string {
	return account + "." + l.ns + ".serviceaccount.identity.linkerd." + trustDomain
}

// at is a server's address by its Service.
func at(protocol, service string, port int, path ...string) string {
	target := fmt.Sprintf("%s://%s:%d", protocol, service, port)
	for _, p := range path {
		target += p
	}
	return target
}

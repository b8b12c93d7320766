//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/call"
)

// dialling is an init container that makes one call and fails when that does.
func (l *lab) dialling(target string) corev1.Container {
	return corev1.Container{Name: "dial", Image: l.image, Args: []string{"call", "--strict", "--target=" + target, "--timeout=3s"}}
}

func initContainers(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("strict", guarded(authenticated)), l.server("lenient", meshed)); err != nil {
		return "", err
	}
	early := func(target string) edit {
		return func(p *corev1.PodTemplateSpec) {
			p.Spec.InitContainers = append(p.Spec.InitContainers, l.dialling(target))
		}
	}
	// linkerd-init comes after those that the pod brings along.
	// By gRPC, where no probe of the kubelet's could be taken for the call.
	if err := l.up(ctx, l.client("early", meshed, early(at("grpc", "lenient", portGRPC)))); err != nil {
		return "", fmt.Errorf("an early dial of a server that lets all in: %w", err)
	}
	seen, err := l.metric(ctx, "lenient", 1, "request_total", "direction=inbound", "tls=no_identity", fmt.Sprintf("target_port=%d", portGRPC))
	if err != nil {
		return seen, err
	}
	if err := l.create(ctx, l.client("refused", meshed, early(at("http", "strict", portHTTP, "/")))); err != nil {
		return seen, err
	}
	code, said, err := l.initFailure(ctx, "refused")
	if err != nil {
		return seen, err
	}
	seen += fmt.Sprintf("; before, to all-authenticated: ended with %d: %s", code, said)
	if !strings.Contains(said, "403") {
		return seen, errors.New("it was not denied")
	}
	late, err := l.dialledLate(ctx)
	if err != nil {
		return seen, err
	}
	if err := l.create(ctx, late); err != nil {
		return seen, err
	}
	code, said, err = l.initFailure(ctx, late.Name)
	if err != nil {
		return seen, err
	}
	seen += fmt.Sprintf("; after: ended with %d: %s", code, said)
	if !strings.Contains(said, "connection refused") {
		return seen, errors.New("its traffic was not sent to the proxy that does not run yet")
	}
	return seen, nil
}

// dialledLate is a pod as the injector made it, with an init container put
// after linkerd-init, as a second webhook would.
func (l *lab) dialledLate(ctx context.Context) (*corev1.Pod, error) {
	if err := l.account(ctx, "late"); err != nil {
		return nil, err
	}
	made, err := l.dryRun(ctx, l.ns, l.client("late", meshed))
	if err != nil {
		return nil, err
	}
	late := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "late", Namespace: l.ns, Labels: made.Labels, Annotations: made.Annotations}, Spec: made.Spec}
	late.Annotations[annotationInject] = "disabled"
	late.Spec.InitContainers = append(late.Spec.InitContainers, l.dialling(at("http", "lenient", portHTTP, "/")))
	return late, nil
}

// initFailure waits until a pod's init container dial has failed, and gives
// its exit code and what it said.
func (l *lab) initFailure(ctx context.Context, name string) (code int32, said string, err error) {
	err = eventually(ctx, time.Minute, func(ctx context.Context) error {
		pod, err := l.getPod(ctx, name)
		if err != nil {
			return err
		}
		s := containerStatus(pod, "dial")
		if s == nil {
			return errors.New("the init container has not run")
		}
		for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if t != nil && t.ExitCode != 0 {
				code = t.ExitCode
				return nil
			}
		}
		return errors.New("the init container has not failed")
	})
	if err != nil {
		return 0, "", fmt.Errorf("pod %s: %w", name, err)
	}
	out, err := l.kube.Logs(ctx, l.ns, name, "dial")
	return code, strings.Join(strings.Fields(string(out)), " "), err
}

func meshedJobs(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", meshed)); err != nil {
		return "", err
	}
	target := "--target=" + at("http", "web", portHTTP, "/")
	for name, args := range map[string][]string{"stays": {"job", target}, "ends": {"job", target, "--shutdown"}} {
		template := l.template(name, args, []edit{meshed})
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		if err := l.create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.ns}, Spec: batchv1.JobSpec{Template: template}}); err != nil {
			return "", err
		}
	}
	jobs := l.kube.Clientset.BatchV1().Jobs(l.ns)
	err := eventually(ctx, time.Minute, func(ctx context.Context) error {
		job, err := jobs.Get(ctx, "ends", metav1.GetOptions{})
		if err == nil && job.Status.Succeeded != 1 {
			err = fmt.Errorf("the Job that ends its proxy: %d active, %d failed", job.Status.Active, job.Status.Failed)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	var pod *corev1.Pod
	err = eventually(ctx, time.Minute, func(ctx context.Context) error {
		var err error
		if pod, err = l.pod(ctx, "stays"); err != nil {
			return err
		}
		if s := containerStatus(pod, "app"); s == nil || s.State.Terminated == nil || s.State.Terminated.ExitCode != 0 {
			return errors.New("the other Job's application has not ended")
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := pause.For(ctx, 10*time.Second); err != nil {
		return "", err
	}
	job, err := jobs.Get(ctx, "stays", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("with /shutdown: completed; without: %d active, %d succeeded 10 s after its application ended", job.Status.Active, job.Status.Succeeded)
	if job.Status.Active != 1 {
		return seen, errors.New("the Job did not stay active")
	}
	return seen, nil
}

func silentlySkipped(ctx context.Context, l *lab) (string, error) {
	var seen []string
	for name, e := range map[string]edit{
		"on-host": func(p *corev1.PodTemplateSpec) {
			meshed(p)
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = nil // the host's ports are others' business
			p.Spec.Containers[0].Args = []string{"hold"}
			p.Spec.Containers[0].ReadinessProbe = nil
		},
		"mistyped": annotate(annotationInject, "enable"),
	} {
		if err := l.up(ctx, l.server(name, e)); err != nil {
			return strings.Join(seen, "; "), err
		}
		pod, err := l.pod(ctx, name)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		if hasContainer(pod, proxyName) {
			return strings.Join(seen, "; "), fmt.Errorf("%s got a proxy", name)
		}
		var event *corev1.Event
		err = eventually(ctx, settleWithin, func(ctx context.Context) error {
			var err error
			event, err = l.eventOf(ctx, "InjectionSkipped", name)
			return err
		})
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		seen = append(seen, fmt.Sprintf("%s: no proxy; %s %s: %s", name, event.InvolvedObject.Kind, event.Reason, event.Message))
	}
	return strings.Join(seen, "; "), nil
}

// eventOf finds an event about a Deployment or what belongs to it.
func (l *lab) eventOf(ctx context.Context, reason, deployment string) (*corev1.Event, error) {
	events, err := l.kube.Clientset.CoreV1().Events(l.ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(events.Items, func(e corev1.Event) bool { return strings.HasPrefix(e.InvolvedObject.Name, deployment) })
	if i < 0 {
		return nil, fmt.Errorf("there is no event %s about %s", reason, deployment)
	}
	return &events.Items[i], nil
}

func legacyIPTables(ctx context.Context, l *lab) (string, error) {
	if l.mesh == stack.MeshStandIn {
		return "", notApplicable("the stand-in sets redirection by nftables alone, whatever iptablesMode says")
	}
	for _, sign := range []string{"/proc/net/ip_tables_names", "/sys/module/ip_tables"} {
		if _, err := os.Stat(sign); err == nil {
			return "", notApplicable("this host's kernel has ip_tables")
		}
	}
	// The control plane's own pods take the mode too: none of the new ones gets
	// ready, and those of before go on.
	l.later(func(ctx context.Context) error { return l.upgrade(ctx, nil) })
	if err := l.put(ctx, map[string]any{"proxyInit": map[string]any{"iptablesMode": "legacy"}}); err != nil {
		return "", err
	}
	var seen string
	err := eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		pods, err := l.kube.Clientset.CoreV1().Pods(stack.NamespaceMesh).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=proxy-injector"})
		if err != nil {
			return err
		}
		for i := range pods.Items {
			if ended := failedInit(&pods.Items[i]); ended != nil {
				seen = fmt.Sprintf("linkerd-init ended with %d: %s", ended.ExitCode, ended.Message)
				return nil
			}
		}
		return errors.New("no linkerd-init has failed")
	})
	return seen, err
}

// failedInit is how a pod's linkerd-init failed, nil when it did not.
func failedInit(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	s := containerStatus(pod, initName)
	if s == nil {
		return nil
	}
	for _, ended := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
		if ended != nil && ended.ExitCode != 0 {
			return ended
		}
	}
	return nil
}

// reachable is a plain call that is to be answered.
func (l *lab) reachable(ctx context.Context, from, service string) error {
	_, err := l.expect(ctx, from, call.Options{Target: at("http", service, portHTTP, "/"), Fresh: true}, answered)
	return err
}

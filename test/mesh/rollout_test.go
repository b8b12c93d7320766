//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/harness/agent/call"
)

// rolloutScenes are the failure modes of rolling out and injecting, but for
// those that need a part of the control plane to be away.
func rolloutScenes() []scene {
	return append([]scene{
		{name: "r1", rows: []row{
			{
				id: "R1", says: "A rolling restart fails no request when application preStop < proxy wait < grace period",
				expected: "0 failed at 20/s of HTTP and of gRPC through a restart of 2 pods", within: 5 * time.Minute, check: restartCarefully,
			},
			{
				id: "R1b", says: "Without them the proxy refuses new connections from SIGTERM on, while the application still serves",
				expected: "fresh calls to the ending pod fail while its application waits in preStop", check: restartCarelessly,
			},
		}},
		{name: "r2", rows: []row{{
			id: "R2", says: "A proxy that waits longer than the grace period is killed",
			expected: "FailedPreStopHook, or linkerd-proxy ended with 137", check: waitTooLong,
		}}},
		{name: "r4", rows: []row{{
			id: "R4", says: "Init containers before linkerd-init send plaintext, those after it have no network",
			expected: "before: refused by all-authenticated, Init:Error; let in with tls=no_identity else; after: connection refused",
			within:   4 * time.Minute, check: initContainers,
		}}},
		{name: "r5", rows: []row{{
			id: "R5", says: "A meshed Job does not end until its proxy is told to",
			expected: "the Job stays active with its application ended; with POST localhost:4191/shutdown it completes", check: meshedJobs,
		}}},
		{name: "r6", rows: []row{{
			id: "R6", says: "A pod of the host's network, or with a wrong annotation, silently gets no proxy",
			expected: "no linkerd-proxy; event InjectionSkipped on the owner", check: silentlySkipped,
		}}},
		{name: "r8", rows: []row{{
			id: "R8", says: "PodSecurity restricted and baseline keep linkerd-init, and with it the pod, away",
			expected: "ReplicaSet FailedCreate: violates PodSecurity", check: podSecurityBlocks,
		}}},
		{name: "r9", rows: []row{{
			id: "R9", says: "On a host without ip_tables, proxyInit.iptablesMode legacy breaks linkerd-init",
			expected: "linkerd-init ends with an error", within: 6 * time.Minute, check: legacyIPTables,
		}}},
	}, protocolScenes()...)
}

// careful is a server that follows the rule of R1.
func careful(p *corev1.PodTemplateSpec) {
	annotate(annotationWait, "10")(p)
	grace(30, 5*time.Second)(p)
}

func restartCarefully(ctx context.Context, l *lab) (string, error) {
	web := l.server("web", meshed, careful)
	two := int32(2)
	web.Spec.Replicas = &two
	if err := l.up(ctx, web, l.client("caller", meshed)); err != nil {
		return "", err
	}
	if _, err := l.expect(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/"), Count: 5}, answered); err != nil {
		return "", err
	}
	// The load outlasts the restart: a pod takes 10 s to leave.
	load := func(target string) *background {
		return l.startCalls(ctx, "caller", call.Options{Target: target, Rate: 10, Count: 900})
	}
	http, grpc := load(at("http", "web", portHTTP, "/")), load(at("grpc", "web", portGRPC))
	restarted := errors.Join(l.restart(ctx, "web"), http.outlasted(), grpc.outlasted())
	byHTTP, httpErr := http.wait()
	byGRPC, grpcErr := grpc.wait()
	seen := fmt.Sprintf("HTTP %s; gRPC %s; by %d pods", byHTTP, byGRPC, len(byHTTP.servers()))
	switch {
	case restarted != nil:
		return seen, restarted
	case len(byHTTP.servers()) < 4:
		return seen, errors.New("the load did not meet all four pods")
	}
	return seen, errors.Join(httpErr, grpcErr, byHTTP.all(answered), byGRPC.all(answered))
}

func restartCarelessly(ctx context.Context, l *lab) (string, error) {
	// The application stays for 15 s; nothing holds its proxy.
	if err := l.up(ctx, l.server("hasty", meshed, grace(30, 15*time.Second)), l.client("stranger")); err != nil {
		return "", err
	}
	pod, err := l.pod(ctx, "hasty")
	if err != nil {
		return "", err
	}
	// By the pod's address, so that no removed endpoint hides it.
	direct := call.Options{Target: at("http", pod.Status.PodIP, portHTTP, "/"), Fresh: true, Timeout: 2 * time.Second}
	if got, err := l.expect(ctx, "stranger", direct, answered); err != nil {
		return got.String(), err
	}
	if err := l.kube.Clientset.CoreV1().Pods(l.ns).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		return "", err
	}
	begun := time.Now()
	direct.Count, direct.Rate = 40, 4
	got, err := l.call(ctx, "stranger", direct)
	if err != nil {
		return "", err
	}
	early := got[:min(len(got), int(12*direct.Rate))] // those within the application's 15 s
	seen := fmt.Sprintf("in the %.0f s after deletion: %s", time.Since(begun).Seconds(), early)
	if len(early.failed()) < len(early)/2 {
		return seen, errors.New("the ending pod went on taking new connections")
	}
	return seen, nil
}

func waitTooLong(ctx context.Context, l *lab) (string, error) {
	slow := l.server("slow", meshed, annotate(annotationWait, "40"), grace(6, 0))
	if err := l.up(ctx, slow); err != nil {
		return "", err
	}
	pod, err := l.pod(ctx, "slow")
	if err != nil {
		return "", err
	}
	begun := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	ends := l.watchEnds(watching, pod.Name, proxyName)
	if err := l.scale(ctx, l.ns, "slow", 0); err != nil {
		return "", err
	}
	err = l.kube.WaitGone(ctx, "pod "+pod.Name, func(ctx context.Context) error {
		_, err := l.getPod(ctx, pod.Name)
		return err
	})
	if err != nil {
		return "", err
	}
	took := time.Since(begun)
	stop()
	code := <-ends
	event, eventErr := l.awaitEvent(ctx, l.ns, "FailedPreStopHook", "", 10*time.Second)
	seen := fmt.Sprintf("the pod was gone after %.0f s; linkerd-proxy ended with %d", took.Seconds(), code)
	if event != nil {
		seen += "; event FailedPreStopHook"
	}
	if code != 137 && eventErr != nil {
		return seen, errors.New("neither event nor exit code tells that the proxy was killed")
	}
	if took > 30*time.Second {
		return seen, errors.New("the grace period did not count")
	}
	return seen, nil
}

// watchEnds gives the last exit code that a pod's container had, -1 for none,
// once ctx ends.
func (l *lab) watchEnds(ctx context.Context, pod, name string) <-chan int32 {
	code := make(chan int32, 1)
	go func() {
		last := int32(-1)
		defer func() { code <- last }()
		for ctx.Err() == nil {
			w, err := l.kube.Clientset.CoreV1().Pods(l.ns).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
			if err != nil {
				return
			}
			for e := range w.ResultChan() {
				p, ok := e.Object.(*corev1.Pod)
				if !ok {
					break
				}
				if s := containerStatus(p, name); s != nil && s.State.Terminated != nil {
					last = s.State.Terminated.ExitCode
				}
			}
			w.Stop()
		}
	}()
	return code
}

func podSecurityBlocks(ctx context.Context, l *lab) (string, error) {
	var seen string
	for _, level := range []string{"restricted", "baseline"} {
		err := l.editNamespace(ctx, func(ns *corev1.Namespace) {
			ns.Labels["pod-security.kubernetes.io/enforce"] = level
		})
		if err != nil {
			return seen, err
		}
		// An application that breaks neither level by itself.
		web := l.server("under-"+level, meshed, unprivileged)
		if err := l.create(ctx, web); err != nil {
			return seen, err
		}
		e, err := l.awaitEvent(ctx, l.ns, "FailedCreate", fmt.Sprintf("violates PodSecurity \"%s", level), 30*time.Second)
		if err != nil {
			return seen, err
		}
		seen += e.InvolvedObject.Kind + ": " + e.Message + "; "
	}
	return seen, nil
}

func unprivileged(p *corev1.PodTemplateSpec) {
	yes, no, user := true, false, int64(1000)
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, AllowPrivilegeEscalation: &no,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/agent/call"
)

// absenceScenes take a part of the control plane away.
func absenceScenes() []scene {
	return []scene{
		{name: "r3", rows: []row{{
			id: "R3", says: "An application is held while its proxy has no identity",
			expected: "no application container for 2 min, then the await exits 69; started once identity is back; calls between pods that run go on",
			within:   8 * time.Minute, check: heldWithoutIdentity,
		}}},
		{name: "r6-ignore", rows: []row{{
			id: "R6b", says: "With webhookFailurePolicy Ignore and no injector, pods start without a proxy",
			expected: "ready, no linkerd-proxy, no event", within: 6 * time.Minute, check: uninjectedWhenIgnored,
		}}},
		{name: "r7", rows: []row{{
			id: "R7", says: "With webhookFailurePolicy Fail and no injector, no pod starts",
			expected: "ReplicaSet FailedCreate that names the webhook; the pod comes once the injector is back", within: 6 * time.Minute, check: blockedWhenFailing,
		}}},
		{name: "destination", rows: []row{{
			id: "CP10", says: "With destination away, calls between pods that know each other go on",
			expected: "0 failed at 5/s while destination is away and when it comes back", within: 5 * time.Minute, check: callsWithoutDestination,
		}}},
	}
}

func heldWithoutIdentity(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", meshed), l.client("caller", meshed)); err != nil {
		return "", err
	}
	if err := l.reachable(ctx, "caller", "web"); err != nil {
		return "", err
	}
	back, err := l.absent(ctx, "linkerd-identity")
	if err != nil {
		return "", err
	}
	begun := time.Now()
	if err := l.create(ctx, l.client("late", meshed)); err != nil {
		return "", err
	}
	load := l.startCalls(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/"), Count: 60, Rate: 2})
	e, err := l.awaitEvent(ctx, l.ns, "FailedPostStartHook", "69", 4*time.Minute)
	if err != nil {
		return "", err
	}
	after := time.Since(begun)
	pod, err := l.getPod(ctx, "late")
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("the await gave up after %.0f s: %s", after.Seconds(), e.Message)
	// The kubelet goes on to the next container when the hook has failed, so the
	// application is held for just as long as the await waits.
	if s := containerStatus(pod, "app"); s != nil {
		started := startOf(s.State)
		if s.RestartCount > 0 || (!started.IsZero() && started.Before(lastSeen(e).Add(-2*time.Second))) {
			return seen, fmt.Errorf("the application had started, at %s", started.UTC().Format(time.TimeOnly))
		}
	}
	if after < 90*time.Second {
		return seen, errors.New("that is too early")
	}
	going, err := load.wait()
	if err == nil {
		err = going.all(answered)
	}
	if err != nil {
		return seen, fmt.Errorf("meanwhile: %w", err)
	}
	if err := back(ctx); err != nil {
		return seen, err
	}
	returned := time.Now()
	if err := l.ready(ctx, pod); err != nil {
		return seen, err
	}
	return seen + fmt.Sprintf("; meanwhile %s; ready %.0f s after identity was back", going, time.Since(returned).Seconds()), nil
}

// startOf is when a container of that state began to run, zero when it has not.
func startOf(s corev1.ContainerState) time.Time {
	switch {
	case s.Running != nil:
		return s.Running.StartedAt.Time
	case s.Terminated != nil:
		return s.Terminated.StartedAt.Time
	default:
		return time.Time{}
	}
}

func uninjectedWhenIgnored(ctx context.Context, l *lab) (string, error) {
	if err := l.plane(ctx, map[string]any{"webhookFailurePolicy": "Ignore"}); err != nil {
		return "", err
	}
	if _, err := l.absent(ctx, "linkerd-proxy-injector"); err != nil {
		return "", err
	}
	if err := l.up(ctx, l.server("web", meshed)); err != nil {
		return "", err
	}
	pod, err := l.pod(ctx, "web")
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("ready, containers %v", names(pod.Spec.Containers))
	if hasContainer(pod, proxyName) {
		return seen, errors.New("it has a proxy")
	}
	if e, err := l.eventOf(ctx, "InjectionSkipped", "web"); err == nil {
		return seen, fmt.Errorf("there is an event: %s", e.Message)
	}
	return seen + ", no event", nil
}

func blockedWhenFailing(ctx context.Context, l *lab) (string, error) {
	web := l.server("web", meshed)
	if err := l.announce(ctx, web); err != nil {
		return "", err
	}
	back, err := l.absent(ctx, "linkerd-proxy-injector")
	if err != nil {
		return "", err
	}
	if err := l.resources.Create(ctx, web); err != nil {
		return "", err
	}
	e, err := l.awaitEvent(ctx, l.ns, "FailedCreate", "linkerd-proxy-injector", time.Minute)
	if err != nil {
		return "", err
	}
	seen := e.InvolvedObject.Kind + " " + e.Reason + ": " + e.Message
	if pods, err := l.pods(ctx, "web"); err != nil || len(pods) > 0 {
		return seen, errors.Join(err, fmt.Errorf("there are %d pods", len(pods)))
	}
	if err := back(ctx); err != nil {
		return seen, err
	}
	returned := time.Now()
	if err := l.ready(ctx, web); err != nil {
		return seen, err
	}
	pod, err := l.pod(ctx, "web")
	if err != nil || !hasContainer(pod, proxyName) {
		return seen, errors.Join(err, errors.New("the pod that came has no proxy"))
	}
	return seen + fmt.Sprintf("; ready %.0f s after the injector was back", time.Since(returned).Seconds()), nil
}

func callsWithoutDestination(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", meshed), l.client("caller", meshed)); err != nil {
		return "", err
	}
	if err := l.reachable(ctx, "caller", "web"); err != nil {
		return "", err
	}
	got, err := l.during(ctx, "caller", 75*time.Second, func() error {
		back, err := l.absent(ctx, "linkerd-destination")
		if err != nil {
			return err
		}
		if err := pause.For(ctx, 20*time.Second); err != nil {
			return err
		}
		return back(ctx)
	})
	return got.String(), err
}

package harness

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// describe writes down what is about to run, on what and with what intent.
func describe(ctx context.Context, o Options, client *kube.Client) (results.Run, error) {
	server, err := client.Clientset.Discovery().ServerVersion()
	if err != nil {
		return results.Run{}, fmt.Errorf("ask the cluster for its version: %w", err)
	}
	host, err := describeHost()
	if err != nil {
		return results.Run{}, err
	}
	s, now := o.Scenario, time.Now().UTC()
	run := results.Run{
		ID: results.NewID(now, s.Metadata.Name), Scenario: s.Metadata.Name, Mesh: o.Mesh, StartedAt: now,
		Seed: s.Spec.Seed, Topology: o.Cluster.Topology.Name, KubernetesVersion: server.GitVersion,
		Fit:      results.Fit{CPU: o.Cluster.Fit.CPU, Memory: o.Cluster.Fit.Memory, Notes: o.Cluster.Fit.Notes},
		StandIns: standIns(o.Mesh), Notes: o.Cluster.Notes, Host: host, Tool: o.Tool,
		Traffic: s.RecordedTraffic(), Budgets: s.BudgetLines(),
		Shop: results.Shop(s.Spec.Shop),
		Edge: results.Edge(s.Spec.Edge),
	}
	run.Traffic.HTTP, run.Traffic.GRPC = o.Cluster.HTTP, o.Cluster.GRPC
	for _, image := range o.Bundle.Images() {
		run.Images = append(run.Images, results.Image{
			Name: image.Name, Ref: image.Ref, Digest: image.Digest, Version: image.Version, Origin: image.Origin, Source: image.Source,
		})
	}
	for _, chart := range o.Bundle.Charts() {
		run.Charts = append(run.Charts, results.Chart(chart))
	}
	for _, p := range s.Spec.Phases {
		run.Phases = append(run.Phases, results.PhasePlan{Name: p.Name, Scale: p.Scale, Judged: p.Judged, MinRequests: p.Until.Requests})
	}
	return run, nil
}

// standIns names the parts that this project's own programs play.
func standIns(mesh string) []string {
	parts := []string{
		"fakeshop (the shop's eight services)",
		"fakeaws (AWS KMS and the application load balancer)",
	}
	if mesh == "fakemesh" {
		parts = append(parts, "fakemesh (in the place of Linkerd)")
	}
	return parts
}

func describeHost() (results.Host, error) {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return results.Host{}, fmt.Errorf("ask the kernel for its version: %w", err)
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return results.Host{}, fmt.Errorf("ask the kernel for its memory: %w", err)
	}
	return results.Host{
		OS: runtime.GOOS, Kernel: text(u.Release[:]), CPUs: runtime.NumCPU(),
		MemoryBytes: int64(info.Totalram) * int64(info.Unit),
	}, nil
}

// text reads a C string.
func text(chars []int8) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// quickMetrics is how often the metrics server asks the kubelets where autoscalers
// wait for it, as on EKS; elsewhere it costs less by asking every minute.
const quickMetrics = "15s"

// stackValues are the scenario's words as chart values, by component.
func stackValues(s *scenarios.Scenario) map[string]map[string]any {
	values := map[string]map[string]any{"shop": shopValues(s.Spec.Shop, s.Spec.Edge)}
	if s.Autoscales() {
		values["metrics-server"] = map[string]any{"resolution": quickMetrics}
	}
	return values
}

// shopValues are the scenario's words on how the shop's pods are replaced, and on
// what stands before it, as chart values.
func shopValues(s scenarios.Shop, e scenarios.Edge) map[string]any {
	values := map[string]any{
		"drain":                         map[string]any{"enabled": s.Drain, "seconds": s.DrainSeconds},
		"mesh":                          map[string]any{"proxyWaitSeconds": s.ProxyWaitSeconds},
		"terminationGracePeriodSeconds": s.TerminationGracePeriodSeconds,
		"minReadySeconds":               s.MinReadySeconds,
		"edge": map[string]any{
			"targetType": e.Targets, "deregistrationDelaySeconds": e.DeregistrationDelaySeconds, "slowStartSeconds": e.SlowStartSeconds,
			"algorithm": e.Algorithm, "idleTimeoutSeconds": e.IdleTimeoutSeconds,
		},
	}
	if s.DatabaseReplica {
		values["postgres"] = map[string]any{"replica": map[string]any{"enabled": true}}
	}
	return stack.MergeValues(s.Values, values)
}

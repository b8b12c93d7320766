package probes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

// Kubelets answer what the containers of a node use: the JSON of
// /stats/summary.
type Kubelets func(ctx context.Context, node string) ([]byte, error)

// ResourceMeter reads what the proxies use, and remembers the last reading, so
// that the use of CPU between two can be told.
type ResourceMeter struct {
	client   kubernetes.Interface
	kubelets Kubelets
	last     map[string]reading // by pod
}

// reading is one container's counter.
type reading struct {
	begun time.Time // of the container
	at    time.Time
	cores float64 // core-seconds since then
}

// NewResourceMeter makes a meter that has read nothing yet.
func NewResourceMeter(client kubernetes.Interface, kubelets Kubelets) *ResourceMeter {
	return &ResourceMeter{client: client, kubelets: kubelets, last: map[string]reading{}}
}

// summary is what is needed of a kubelet's.
type summary struct {
	Pods []struct {
		PodRef     struct{ Name, Namespace string } `json:"podRef"`
		Containers []struct {
			Name      string    `json:"name"`
			StartTime time.Time `json:"startTime"`
			CPU       struct {
				Time                 time.Time `json:"time"`
				UsageCoreNanoSeconds *uint64   `json:"usageCoreNanoSeconds"`
			} `json:"cpu"`
			Memory struct {
				WorkingSetBytes *int64 `json:"workingSetBytes"`
			} `json:"memory"`
		} `json:"containers"`
	} `json:"pods"`
}

// usage is one proxy's, as its kubelet told it.
type usage struct {
	memory int64
	reading
}

// Read takes a reading of every proxy of the shop that stands now. from and to
// are the phase's ends on the run's clock.
func (m *ResourceMeter) Read(ctx context.Context, phase string, from, to int64) (results.ProxyResources, error) {
	pods, err := m.client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: shopPods})
	if err != nil {
		return results.ProxyResources{}, fmt.Errorf("list the shop's pods: %w", err)
	}
	used := map[string]usage{}
	var asked []string
	seen := results.ProxyResources{Phase: phase, From: from, To: to, Proxies: []results.ProxyUsage{}}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp != nil || !stack.Meshed(pod) {
			continue
		}
		if node := pod.Spec.NodeName; node != "" && !slices.Contains(asked, node) {
			asked = append(asked, node)
			if err := m.ask(ctx, node, used); err != nil {
				return results.ProxyResources{}, err
			}
		}
		now, ok := used[pod.Name]
		if !ok {
			seen.Silent = append(seen.Silent, pod.Name)
			continue
		}
		seen.Proxies = append(seen.Proxies, results.ProxyUsage{
			Pod: pod.Name, Service: pod.Labels["app.kubernetes.io/name"], MemoryBytes: now.memory, Cores: m.cores(pod.Name, now.reading),
		})
		m.last[pod.Name] = now.reading
	}
	return seen, nil
}

// ask adds what one node's proxies use.
func (m *ResourceMeter) ask(ctx context.Context, node string, into map[string]usage) error {
	raw, err := m.kubelets(ctx, node)
	if err != nil {
		return fmt.Errorf("ask the kubelet of %s what its containers use: %w", node, err)
	}
	var s summary
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read what the kubelet of %s says: %w", node, err)
	}
	for _, p := range s.Pods {
		for _, c := range p.Containers {
			if p.PodRef.Namespace != shopNamespace || c.Name != stack.ProxyContainer || c.CPU.UsageCoreNanoSeconds == nil || c.Memory.WorkingSetBytes == nil {
				continue
			}
			into[p.PodRef.Name] = usage{*c.Memory.WorkingSetBytes, reading{c.StartTime, c.CPU.Time, float64(*c.CPU.UsageCoreNanoSeconds) / 1e9}}
		}
	}
	return nil
}

// cores is the mean use since the last reading of the same container, else
// since its start; nil when no time has gone by.
func (m *ResourceMeter) cores(pod string, now reading) *float64 {
	before := reading{begun: now.begun, at: now.begun}
	if last, ok := m.last[pod]; ok && last.begun.Equal(now.begun) {
		before = last
	}
	took := now.at.Sub(before.at).Seconds()
	if before.at.IsZero() || took <= 0 {
		return nil
	}
	mean := max(now.cores-before.cores, 0) / took
	return &mean
}

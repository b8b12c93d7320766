package topology

import "fmt"

// Fit says how a topology's pods are made to fit a host smaller than the
// cluster: their requests are multiplied by the factors.
type Fit struct {
	CPU             float64 `json:"cpu"`    // factor, over 0 and at most 1
	Memory          float64 `json:"memory"` // factor, over 0 and at most 1
	HostCPU         int     `json:"hostCPU"`
	HostMemoryBytes int64   `json:"hostMemoryBytes"`
	// Notes say in words where the host differs from the topology.
	Notes []string `json:"notes,omitempty"`
}

// FitTo weighs the workers' capacity against a host of hostCPU cores and
// hostMem bytes. Every node sees the whole host, so what the scheduler may hand
// out is kept to what there is by scaling the requests, not the nodes.
func FitTo(t *Topology, hostCPU int, hostMem int64) Fit {
	vcpu, memory := t.Capacity()
	fit := Fit{CPU: factor(float64(hostCPU), float64(vcpu)), Memory: factor(float64(hostMem), float64(memory)),
		HostCPU: hostCPU, HostMemoryBytes: hostMem}
	if fit.CPU < 1 {
		fit.Notes = append(fit.Notes, fmt.Sprintf("CPU requests are multiplied by %.3g: this host has %d CPUs, the topology's workers have %d", fit.CPU, hostCPU, vcpu))
	}
	if fit.Memory < 1 {
		fit.Notes = append(fit.Notes, fmt.Sprintf("memory requests are multiplied by %.3g: this host has %.1f GiB, the topology's workers have %d GiB", fit.Memory, float64(hostMem)/(1<<30), memory>>30))
	}
	return fit
}

// factor is have/want, at most 1. A host that tells nothing scales nothing.
func factor(have, want float64) float64 {
	if have <= 0 || want <= 0 || have >= want {
		return 1
	}
	return have / want
}

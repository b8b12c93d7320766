package topology

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHashChangesWithTheShapeOnly(t *testing.T) {
	one, err := Load("eks-1.24")
	require.NoError(t, err)
	same, err := Load("eks-1.24")
	require.NoError(t, err)
	same.Name, same.Description = "copy", "another text"
	require.Equal(t, one.Hash(), same.Hash())
	require.Len(t, one.Hash(), 16)
	same.NodeGroups[0].Nodes["us-east-1a"]++
	require.NotEqual(t, one.Hash(), same.Hash())
	require.Equal(t, "eks-1.24", one.Name)
}

func TestAllocatableIsWhatEKSLeavesToPods(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		name      string
		group     NodeGroup
		milliCPU  int64
		memoryMiB int64
	}{
		{"the case study's t3.large", NodeGroup{VCPU: 4, MemoryGiB: 8, MaxPods: 35}, 3920, 7452},
		{"a real t3.large", NodeGroup{VCPU: 2, MemoryGiB: 8, MaxPods: 35}, 1930, 7452},
		{"one core", NodeGroup{VCPU: 1, MemoryGiB: 2, MaxPods: 11}, 940, 1572},
		{"sixteen cores", NodeGroup{VCPU: 16, MemoryGiB: 64, MaxPods: 234}, 15890, 62607},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cpu, memory := tc.group.Allocatable()
			require.Equal(t, tc.milliCPU, cpu)
			require.Equal(t, tc.memoryMiB, memory/mib)
		})
	}
}

func TestFitScalesRequestsToTheHostAndNeverUp(t *testing.T) {
	top, err := Load("eks-1.24")
	require.NoError(t, err)
	for _, tc := range []struct {
		name       string
		cpu        int
		mem        int64
		wantCPU    float64
		wantMemory float64
		notes      []string
	}{
		{"two cores and 24 GiB", 2, 24 << 30, 2.0 / 24, 0.5, []string{
			"CPU requests are multiplied by 0.0833: this host has 2 CPUs, the topology's workers have 24",
			"memory requests are multiplied by 0.5: this host has 24.0 GiB, the topology's workers have 48 GiB"}},
		{"a host as large as the cluster", 24, 48 << 30, 1, 1, nil},
		{"a larger host", 64, 256 << 30, 1, 1, nil},
		{"many cores, little memory", 32, 12 << 30, 1, 0.25, []string{
			"memory requests are multiplied by 0.25: this host has 12.0 GiB, the topology's workers have 48 GiB"}},
		{"a host that tells nothing", 0, 0, 1, 1, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fit := FitTo(top, tc.cpu, tc.mem)
			require.InDelta(t, tc.wantCPU, fit.CPU, 1e-9)
			require.InDelta(t, tc.wantMemory, fit.Memory, 1e-9)
			require.Equal(t, tc.cpu, fit.HostCPU)
			require.Equal(t, tc.mem, fit.HostMemoryBytes)
			require.Equal(t, tc.notes, fit.Notes)
		})
	}
}

// Package topology says what a cluster looks like: its zones, node groups,
// storage classes and Kubernetes version. A topology is data; raising it is
// another package's work.
//
// A file is strict YAML, kind Topology of meshsim.dev/v1alpha1. Unknown keys,
// wrong types and values that make no cluster are refused, all of them at once
// and each with its line. The shipped files show every key.
package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Topology is one cluster's shape. The control plane is a node more, as EKS
// keeps it apart from the workers.
type Topology struct {
	Name              string
	Description       string
	KubernetesVersion string // "v1.24.17"
	Region            string
	Zones             []string
	NodeGroups        []NodeGroup
	StorageClasses    []StorageClass
	CrossZoneDelay    time.Duration // round trip between two zones
}

// NodeGroup is a set of like workers, as EKS groups them.
type NodeGroup struct {
	Name         string
	InstanceType string
	VCPU         int               // of one node
	MemoryGiB    int               // of one node
	CapacityType string            // OnDemand or Spot
	Nodes        map[string]int    // zone to number of nodes
	MaxPods      int               // of one node
	Labels       map[string]string // beside those that EKS sets
	Taints       []string          // key=value:Effect
}

// The capacity types, as EKS writes them into its node label.
const (
	OnDemand = "ON_DEMAND"
	Spot     = "SPOT"
)

// StorageClass is a class of volumes; exactly one is the default.
type StorageClass struct {
	Name    string
	Default bool
}

// Worker is one worker node.
type Worker struct {
	Zone  string
	Group *NodeGroup
}

// Workers lists the workers in a fixed order: group by group, the zones taken
// in turn, so that neighbours in the list are in different zones.
func (t *Topology) Workers() []Worker {
	var workers []Worker
	for i := range t.NodeGroups {
		group := &t.NodeGroups[i]
		most := 0
		for _, n := range group.Nodes {
			most = max(most, n)
		}
		for round := range most {
			for _, zone := range t.Zones {
				if group.Nodes[zone] > round {
					workers = append(workers, Worker{Zone: zone, Group: group})
				}
			}
		}
	}
	return workers
}

// Capacity is what all workers have together.
func (t *Topology) Capacity() (vcpu int, memoryBytes int64) {
	for _, w := range t.Workers() {
		vcpu += w.Group.VCPU
		memoryBytes += w.Group.MemoryBytes()
	}
	return vcpu, memoryBytes
}

// Hash changes with everything that makes a standing cluster another one; the
// name and the description do not.
func (t *Topology) Hash() string {
	c := *t
	c.Name, c.Description = "", ""
	data, err := json.Marshal(c) // map keys come out sorted
	if err != nil {
		return "" // plain data always marshals
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Group returns the group with this name, or nil.
func (t *Topology) Group(name string) *NodeGroup {
	i := slices.IndexFunc(t.NodeGroups, func(g NodeGroup) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return &t.NodeGroups[i]
}

// MemoryBytes is one node's memory.
func (g *NodeGroup) MemoryBytes() int64 { return int64(g.MemoryGiB) << 30 }

// Allocatable is what an EKS node of this group leaves to pods. EKS keeps back
// memory by the number of pods, and CPU by a share that falls with each core.
func (g *NodeGroup) Allocatable() (milliCPU, memoryBytes int64) {
	const mib = 1 << 20
	keptMemory := int64(255+11*g.MaxPods)*mib + 100*mib // the last is the eviction threshold
	kept := int64(0)                                    // tenths of a thousandth of a core
	for core := range g.VCPU {
		switch {
		case core == 0:
			kept += 600
		case core == 1:
			kept += 100
		case core < 4:
			kept += 50
		default:
			kept += 25
		}
	}
	return int64(g.VCPU)*1000 - kept/10, g.MemoryBytes() - keptMemory
}

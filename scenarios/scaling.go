package scenarios

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// Autoscale gives a service a HorizontalPodAutoscaler.
type Autoscale struct {
	Service        string
	Most           int           // pods; default 5
	ScaleDownAfter time.Duration // how long less load must last; default 5m, as Kubernetes has it
}

// AwaitReplicas waits until a service's autoscaler has brought it to a number of
// pods.
type AwaitReplicas struct {
	Service string
	// AtLeast or AtMost is set, the other 0.
	AtLeast, AtMost int
	Within          time.Duration // default 4m; what comes later is not waited for
}

// Reached tells whether so many pods are what is waited for.
func (o *AwaitReplicas) Reached(pods int) bool {
	if o.AtLeast > 0 {
		return pods >= o.AtLeast
	}
	return pods <= o.AtMost
}

// RestartReplica deletes the pod of the database's replica and watches it come
// back.
type RestartReplica struct{}

// What these steps give.
const (
	autoscaled       = "autoscale"
	replicaRestarted = "restart-replica"
)

// mostPods is more than any service of a shop this size has.
const mostPods = 50

func readAutoscale(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Autoscale{Most: 5, ScaleDownAfter: 5 * time.Minute}
	d.options(n, "autoscale", map[string]field{
		"service":        d.service(&o.Service),
		"most":           d.integer("most", 1, mostPods, &o.Most),
		"scaleDownAfter": d.duration("scaleDownAfter", 0, time.Hour, &o.ScaleDownAfter),
	}, "service")
	return o
}

func readAwaitReplicas(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &AwaitReplicas{Within: 4 * time.Minute}
	d.options(n, "await-replicas", map[string]field{
		"service": d.service(&o.Service),
		"atLeast": d.integer("atLeast", 1, mostPods, &o.AtLeast),
		"atMost":  d.integer("atMost", 1, mostPods, &o.AtMost),
		"within":  d.duration("within", time.Second, time.Hour, &o.Within),
	}, "service")
	if (o.AtLeast > 0) == (o.AtMost > 0) {
		d.fail(n, "step await-replicas wants atLeast or atMost, one of them")
	}
	return o
}

func readRestartReplica(d *decoder, n *yaml.Node, s *Spec) any {
	d.options(n, "restart-replica", nil)
	if !s.Shop.DatabaseReplica {
		d.fail(n, "step restart-replica wants a replica: add databaseReplica: true to the scenario's shop")
	}
	return &RestartReplica{}
}

func (o *Autoscale) String() string {
	return fmt.Sprintf("%s up to %d pods, and down after %s of less load", o.Service, o.Most, o.ScaleDownAfter)
}

func (o *AwaitReplicas) String() string {
	if o.AtLeast > 0 {
		return fmt.Sprintf("until %s has at least %d pods, within %s", o.Service, o.AtLeast, o.Within)
	}
	return fmt.Sprintf("until %s has at most %d pods, within %s", o.Service, o.AtMost, o.Within)
}

// Autoscales tells whether the scenario gives a service an autoscaler.
func (s *Scenario) Autoscales() bool {
	for _, p := range s.Spec.Phases {
		for _, step := range p.Steps {
			if _, ok := step.Options.(*Autoscale); ok {
				return true
			}
		}
	}
	return false
}

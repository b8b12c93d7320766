package watch

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"

	"meshsim.dev/meshsim/results"
)

// rollouts are the Deployments of one namespace. Its informer calls from one
// goroutine.
type rollouts struct {
	sink    Sink
	rolling map[string]bool
}

// deployment reports when a rollout begins and when it is complete. A pod that
// is lost and comes again is none.
func (r *rollouts) deployment(before, after any) {
	old, _ := before.(*appsv1.Deployment)
	now, _ := after.(*appsv1.Deployment)
	if now == nil {
		return
	}
	state := ""
	switch done := rolledOut(now); {
	case !done && (old == nil || now.Generation > old.Generation):
		state = results.StateBegun
		r.rolling[now.Name] = true
	case done && r.rolling[now.Name]:
		state = results.StateComplete
		delete(r.rolling, now.Name)
	default:
		return
	}
	r.sink(results.Event{Kind: results.Rollout, Name: now.Name, Fields: map[string]string{
		results.FieldState: state, results.FieldService: now.Labels["app.kubernetes.io/name"], "namespace": now.Namespace,
		"generation": strconv.FormatInt(now.Generation, 10),
	}})
}

// rolledOut tells whether all of a Deployment's pods are of its newest template.
func rolledOut(d *appsv1.Deployment) bool {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= wanted && s.Replicas == s.UpdatedReplicas && s.AvailableReplicas >= wanted
}

package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// scaler is a service's autoscaler, beside what the shop's chart says of all.
type scaler struct {
	Most           int // pods
	ScaleDownAfter time.Duration
}

// Autoscaled tells whether any service has an autoscaler.
func (r *Rollout) Autoscaled() bool { return len(r.scalers) > 0 }

// scale gives a service an autoscaler; with nil it has none any more.
func (r *Rollout) scale(ctx context.Context, env *Env, service string, to *scaler) error {
	if to == nil {
		delete(r.scalers, service)
	} else {
		r.scalers[service] = *to
	}
	return r.roll(ctx, env, service)
}

// scalerValues are the autoscalers as the shop's chart spells them.
func (r *Rollout) scalerValues() map[string]any {
	all := map[string]any{}
	for service, s := range r.scalers {
		all[service] = map[string]any{"maxReplicas": s.Most, "scaleDownAfterSeconds": int(s.ScaleDownAfter.Seconds())}
	}
	return map[string]any{"services": all}
}

// How often autoscalers are looked at, and how long a new one may take to read
// its first metrics: those of a pod that has just started are not used.
const (
	scalerLook     = 2 * time.Second
	scalerPatience = 4 * time.Minute
)

// autoscale gives a service a HorizontalPodAutoscaler and waits until it reads
// what the pods use.
type autoscale struct {
	options *scenarios.Autoscale
	env     *Env

	before *scaler
	begun  bool
}

func (s *autoscale) Execute(ctx context.Context) error {
	service := s.options.Service
	task := s.env.Progress.Start("autoscale " + service)
	if was, there := s.env.Rollout.scalers[service]; there {
		s.before = &was
	}
	s.begun = true
	err := s.env.Rollout.scale(ctx, s.env, service, &scaler{s.options.Most, s.options.ScaleDownAfter})
	if err != nil {
		task.Fail(err)
		return err
	}
	began := time.Now()
	for {
		seen, err := s.look(ctx)
		switch {
		case err != nil:
			task.Fail(err)
			return err
		case seen.Measured():
			task.Done(fmt.Sprintf("%d %% of %d %%", *seen.Percent, seen.Target))
			s.env.Record.Note(fmt.Sprintf("%s has an autoscaler, which read its first metrics after %s", service, time.Since(began).Round(time.Second)))
			return nil
		case time.Since(began) > scalerPatience:
			// A budget is broken by this, not the environment: the verdict says so.
			err := fmt.Errorf("it has read no metrics within %s: %s", scalerPatience, seen.Why)
			task.Fail(err)
			s.env.Record.Warn("autoscaler of "+service, err.Error())
			return nil
		}
		task.Detail("%s", seen.Why)
		if err := pause.For(ctx, scalerLook); err != nil {
			task.Fail(err)
			return err
		}
	}
}

func (s *autoscale) look(ctx context.Context) (results.Autoscaler, error) {
	seen, err := probes.Autoscaling(ctx, s.env.Kube.Clientset, "")
	if err != nil {
		return results.Autoscaler{}, err
	}
	i := slices.IndexFunc(seen.Autoscalers, func(a results.Autoscaler) bool { return a.Name == s.options.Service })
	if i < 0 {
		return results.Autoscaler{}, fmt.Errorf("%s has no autoscaler, though it was given one", s.options.Service)
	}
	return seen.Autoscalers[i], nil
}

func (s *autoscale) Undo(ctx context.Context) error {
	if !s.begun {
		return nil
	}
	return s.env.Rollout.scale(ctx, s.env, s.options.Service, s.before)
}

// awaitReplicas waits until a service's autoscaler has brought it somewhere.
type awaitReplicas struct {
	options *scenarios.AwaitReplicas
	env     *Env
}

func (s *awaitReplicas) Execute(ctx context.Context) error {
	o := s.options
	task := s.env.Progress.Start("wait " + o.String())
	began := time.Now()
	for {
		d, err := s.env.Kube.Clientset.AppsV1().Deployments(shopNamespace).Get(ctx, o.Service, metav1.GetOptions{})
		if err != nil {
			task.Fail(err)
			return fmt.Errorf("count the pods of %s: %w", o.Service, err)
		}
		pods := int(d.Status.Replicas)
		if o.AtLeast > 0 {
			pods = int(d.Status.AvailableReplicas) // those that do not serve yet are no relief
		}
		took := time.Since(began)
		switch {
		case o.Reached(pods):
			task.Done(fmt.Sprintf("%d pods", pods))
			s.env.Record.Note(fmt.Sprintf("%s has %d pods after %s", o.Service, pods, took.Round(time.Second)))
			return nil
		case took > o.Within:
			err := fmt.Errorf("%s has %d pods after %s", o.Service, pods, o.Within)
			task.Fail(err)
			s.env.Record.Warn("step await-replicas", err.Error()) // which a budget judges
			return nil
		}
		task.Detail("%d pods", pods)
		if err := pause.For(ctx, scalerLook); err != nil {
			task.Fail(err)
			return err
		}
	}
}

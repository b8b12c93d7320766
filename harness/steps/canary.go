package steps

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/scenarios"
)

// behave has a service misbehave, or behave again.
type behave struct {
	options *scenarios.Behave
	env     *Env

	before map[string]any
	begun  bool
}

func (s *behave) Execute(ctx context.Context) error {
	s.begun, s.before = true, s.env.Rollout.behaviour[s.options.Service]
	if err := s.to(ctx, s.options.Behaviour); err != nil {
		return err
	}
	s.env.Record.Note("changed the behaviour of " + s.options.Service)
	return nil
}

func (s *behave) Undo(ctx context.Context) error {
	if !s.begun {
		return nil
	}
	return s.to(ctx, s.before)
}

func (s *behave) to(ctx context.Context, behaviour map[string]any) error {
	return s.env.Rollout.behave(ctx, s.env, s.options.Service, behaviour)
}

// shiftTime is what the mesh is given to tell every proxy of a changed route.
const shiftTime = 5 * time.Second

// canary gives a version of a service a share of its calls.
type canary struct {
	options *scenarios.Canary
	env     *Env
}

func (s *canary) Execute(ctx context.Context) error {
	o, r := s.options, s.env.Rollout
	task := s.env.Progress.Start(o.String())
	err := r.setCanary(ctx, s.env, o.Service, o.Version, o.Behaviour)
	if err == nil {
		r.weigh(o.Service, o.Version, o.Weight)
		err = r.route(ctx, s.env, o.Service)
	}
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done("")
	s.env.Record.Note(o.String())
	return nil
}

// Undo takes every canary of the service away.
func (s *canary) Undo(ctx context.Context) error {
	return s.env.Rollout.endCanaries(ctx, s.env, s.options.Service)
}

// endCanary gives all calls back to the first version.
type endCanary struct {
	options *scenarios.EndCanary
	env     *Env
}

func (s *endCanary) Execute(ctx context.Context) error {
	if err := s.env.Rollout.endCanaries(ctx, s.env, s.options.Service); err != nil {
		return err
	}
	s.env.Record.Note(s.options.Service + " has its first version alone")
	return nil
}

// version is a canary: how it behaves, and its share of the calls in per cent.
type version struct {
	Behaviour map[string]any
	Weight    int
}

// behave rolls one service to another behaviour.
func (r *Rollout) behave(ctx context.Context, env *Env, service string, behaviour map[string]any) error {
	if sameValues(r.behaviour[service], behaviour) {
		return nil
	}
	r.behaviour[service] = behaviour
	if len(behaviour) == 0 {
		delete(r.behaviour, service)
	}
	return r.roll(ctx, env, service)
}

// setCanary makes a canary, or one that is there behave so.
func (r *Rollout) setCanary(ctx context.Context, env *Env, service, name string, behaviour map[string]any) error {
	was, there := r.canaries[service][name]
	if there && sameValues(was.Behaviour, behaviour) {
		return nil
	}
	if r.canaries[service] == nil {
		r.canaries[service] = map[string]version{}
	}
	r.canaries[service][name] = version{Behaviour: behaviour, Weight: was.Weight}
	return r.roll(ctx, env, service)
}

func (r *Rollout) weigh(service, name string, weight int) {
	v := r.canaries[service][name]
	v.Weight = weight
	r.canaries[service][name] = v
}

// endCanaries leads all calls to the first version, and then removes the others.
// A service without canaries is left alone.
func (r *Rollout) endCanaries(ctx context.Context, env *Env, service string) error {
	if len(r.canaries[service]) == 0 {
		return nil
	}
	for name := range r.canaries[service] {
		r.weigh(service, name, 0)
	}
	if err := r.route(ctx, env, service); err != nil {
		return err
	}
	// The Service's own name leads to the first version without a route, too.
	if err := env.Kube.Delete(ctx, routeOf(service, nil), shopNamespace); err != nil {
		return fmt.Errorf("remove the route of %s: %w", service, err)
	}
	if err := pause.For(ctx, shiftTime); err != nil {
		return err
	}
	delete(r.canaries, service)
	return r.roll(ctx, env, service)
}

// route shares a service's calls out, and gives the mesh time to learn of it.
func (r *Rollout) route(ctx context.Context, env *Env, service string) error {
	if err := env.Kube.Apply(ctx, routeOf(service, r.canaries[service]), shopNamespace); err != nil {
		return fmt.Errorf("share out the calls of %s: %w", service, err)
	}
	return pause.For(ctx, shiftTime)
}

// routeOf is the HTTPRoute by which the mesh shares the calls of a service out
// to its versions; the first has what the canaries leave.
func routeOf(service string, canaries map[string]version) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: %[1]s-versions, labels: {app.kubernetes.io/part-of: fakeshop}}
spec:
  parentRefs: [{group: core, kind: Service, name: %[1]s, port: 9090}]
  rules:
  - backendRefs:
`, service)
	rest := 100
	for _, name := range slices.Sorted(maps.Keys(canaries)) {
		weight := min(canaries[name].Weight, rest)
		rest -= weight
		fmt.Fprintf(&b, "    - {name: %s-%s, port: 9090, weight: %d}\n", service, name, weight)
	}
	fmt.Fprintf(&b, "    - {name: %s-v1, port: 9090, weight: %d}\n", service, rest)
	return []byte(b.String())
}

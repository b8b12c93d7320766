package harness

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/watch"
	"meshsim.dev/meshsim/results"
)

// startCapture begins to follow the wire, where the scenario asks for it.
// Captures that do not come up are a warning and leave their budgets without
// data, or without that of some nodes; only the end of ctx stops the run.
func (r *rehearsal) startCapture(ctx context.Context) error {
	if !r.Scenario.Spec.Evidence.Wire {
		return removeCapture(ctx, r.kube)
	}
	task := r.Progress.Start("follow the wire")
	following, stop := context.WithCancel(ctx)
	r.stopCapture = stop
	err := r.raiseCapture(following)
	if err == nil {
		all := len(r.capture.nodes)
		task.Done(fmt.Sprintf("on %d of %d nodes", all-len(r.capture.absent()), all))
		return nil
	}
	task.Fail(err)
	r.record.Warn(results.ProbeWarning(results.ProbeWire), fmt.Sprintf("could not be taken: the capture did not start: %v", err))
	return errors.Join(context.Cause(ctx), r.endCapture(ctx))
}

func (r *rehearsal) raiseCapture(ctx context.Context) error {
	image, err := r.stack.Images.Image("agent")
	if err != nil {
		return err
	}
	addresses, err := watch.FollowAddresses(ctx, r.kube.Clientset, stack.NamespaceShop, shopchart.Services())
	if err != nil {
		return err
	}
	nodes, err := r.kube.Clientset.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	var names []string
	for i := range nodes.Items {
		names = append(names, nodes.Items[i].Name)
	}
	r.capture = &capture{
		kube: r.kube, book: probes.NewWireBook(addresses.Of, names), nodes: names, trouble: r.record.Warn, now: r.record.now,
	}
	if err := r.capture.begin(ctx, image.Ref, captureArgs(nodes.Items, traffic.Planted(r.Scenario.Spec.Seed))); err != nil {
		return err
	}
	book := r.capture.book
	book.Begin(r.record.now(), r.record.sent.Load())
	r.record.onMark(func(at int64) { book.Cut(at, r.record.sent.Load()) })
	r.capture.listeners.Go(func() { r.keepWire(ctx) })
	return nil
}

// keepWire cuts slices where no phase or step does, and records them.
func (r *rehearsal) keepWire(ctx context.Context) {
	for pause.For(ctx, captureKept) == nil {
		r.capture.book.Cut(r.record.now(), r.record.sent.Load())
		if err := r.capture.tell(r.record, r.record.now()); err != nil {
			r.record.keep(err)
			return
		}
	}
}

// observeWire records what is left of the wire, once the last snapshots are in.
func (r *rehearsal) observeWire(ctx context.Context) error {
	if r.capture == nil {
		return nil
	}
	ended := r.record.now()
	r.capture.book.Cut(ended, r.record.sent.Load())
	for !r.capture.book.Heard(ended) && r.record.now() < ended+int64(captureEvery+captureLag) {
		if err := pause.For(ctx, captureEvery/8); err != nil {
			return err
		}
	}
	return r.capture.tell(r.record, ended+int64(captureEvery+captureLag))
}

// endCapture takes the captures away; it may be called again.
func (r *rehearsal) endCapture(ctx context.Context) error {
	if r.stopCapture == nil {
		return nil
	}
	r.stopCapture()
	r.stopCapture = nil
	if r.capture == nil {
		return deleteCapture(ctx, r.kube)
	}
	err := r.capture.end(ctx)
	r.capture = nil
	return err
}

// observeIdentities looks when the proxies' certificates end and, where the
// scenario asks for it, at what they show by now.
func (r *rehearsal) observeIdentities(ctx context.Context) error {
	if len(r.env.Rollout.Injected()) == 0 {
		return nil
	}
	if err := r.probe(ctx, results.ProbeLeaves, func(ctx context.Context) (any, error) {
		return probes.Leaves(ctx, r.kube.Clientset, r.kube, time.Now())
	}); err != nil || !r.Scenario.Spec.Evidence.Identities {
		return err
	}
	return r.probe(ctx, results.ProbeIdentity, func(ctx context.Context) (any, error) {
		return probes.Identities(ctx, r.kube.Clientset, r.kube, r.identities)
	})
}

//go:build conformance

package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/agent/call"
)

// lab is one scene while it is played.
type lab struct {
	*world
	ns    string
	began time.Time
	undo  []func(context.Context) error

	anchor, issuer *authority // the suite's own, where a scene put them in
}

// later has something undone when the scene is over, also when it failed.
func (l *lab) later(undo func(context.Context) error) { l.undo = append(l.undo, undo) }

// namespace makes one that is empty, and has it removed later.
func (l *lab) namespace(ctx context.Context, name string) error {
	namespaces := l.kube.Clientset.CoreV1().Namespaces()
	remove := func(ctx context.Context) error {
		if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return l.kube.WaitGone(ctx, "namespace "+name, func(ctx context.Context) error {
			_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
			return err
		})
	}
	if err := remove(ctx); err != nil {
		return fmt.Errorf("clear what an earlier run left: %w", err)
	}
	l.later(remove)
	_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// annotateNamespace sets annotations of the scene's namespace; "" takes one away.
func (l *lab) annotateNamespace(ctx context.Context, annotations map[string]string) error {
	return l.editNamespace(ctx, func(ns *corev1.Namespace) {
		if ns.Annotations == nil {
			ns.Annotations = map[string]string{}
		}
		for key, value := range annotations {
			ns.Annotations[key] = value
			if value == "" {
				delete(ns.Annotations, key)
			}
		}
	})
}

func (l *lab) editNamespace(ctx context.Context, edit func(*corev1.Namespace)) error {
	namespaces := l.kube.Clientset.CoreV1().Namespaces()
	ns, err := namespaces.Get(ctx, l.ns, metav1.GetOptions{})
	if err != nil {
		return err
	}
	edit(ns)
	_, err = namespaces.Update(ctx, ns, metav1.UpdateOptions{})
	return err
}

// apply applies YAML to the scene's namespace.
func (l *lab) apply(ctx context.Context, manifests string) error {
	return l.kube.Apply(ctx, []byte(manifests), l.ns)
}

// remove deletes what YAML names.
func (l *lab) remove(ctx context.Context, manifests string) error {
	return l.kube.Delete(ctx, []byte(manifests), l.ns)
}

// dryRun is a pod as the cluster would store it.
func (w *world) dryRun(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	pod = pod.DeepCopy()
	pod.APIVersion, pod.Kind = "v1", "Pod"
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return nil, err
	}
	stored, err := w.kube.DryRun(ctx, &unstructured.Unstructured{Object: raw}, namespace)
	if err != nil {
		return nil, err
	}
	out := &corev1.Pod{}
	return out, runtime.DefaultUnstructuredConverter.FromUnstructured(stored.Object, out)
}

// eventually tries until there is no error; the last one tells what was missing.
func eventually(ctx context.Context, within time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if pause.For(ctx, 500*time.Millisecond) != nil {
			return fmt.Errorf("not within %s: %w", within, err)
		}
	}
}

// agent runs a sub-command of the agent in a container app that is there.
func (l *lab) agent(ctx context.Context, pod string, args ...string) ([]byte, error) {
	out, errOut, err := l.kube.Exec(ctx, l.ns, pod, "app", append([]string{"/agent"}, args...), nil)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errOut))
	}
	return out, nil
}

// agentJSON is agent for sub-commands that print one JSON value.
func (l *lab) agentJSON(ctx context.Context, into any, pod string, args ...string) error {
	out, err := l.agent(ctx, pod, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("agent %s: %w", args[0], err)
	}
	return nil
}

// call has a pod make calls.
func (l *lab) call(ctx context.Context, from string, o call.Options) (calls, error) {
	if o.Rate == 0 {
		o.Rate = 10
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	o.Count = max(o.Count, 1)
	args := []string{
		"call", "--target=" + o.Target, "--method=" + o.Method, fmt.Sprintf("--rate=%g", o.Rate), fmt.Sprintf("--count=%d", o.Count),
		fmt.Sprintf("--bytes=%d", o.Bytes), "--timeout=" + o.Timeout.String(), "--hold=" + o.Hold.String(),
		fmt.Sprintf("--fresh=%t", o.Fresh), fmt.Sprintf("--show=%t", o.Show),
	}
	for name, value := range o.Headers {
		args = append(args, "--header="+name+"="+value)
	}
	out, err := l.agent(ctx, from, args...)
	if err != nil {
		return nil, err
	}
	all, err := call.Decode(bytes.NewReader(out))
	if err == nil && len(all) != o.Count {
		err = fmt.Errorf("%d calls of %d came back", len(all), o.Count)
	}
	return all, err
}

// background is load that goes on while something else is done.
type background struct {
	done chan struct{}
	all  calls
	err  error
}

// startCalls begins calls; wait returns them all.
func (l *lab) startCalls(ctx context.Context, from string, o call.Options) *background {
	b := &background{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.all, b.err = l.call(ctx, from, o)
	}()
	return b
}

func (b *background) wait() (calls, error) {
	<-b.done
	return b.all, b.err
}

// outlasted is an error when the load ended before what it was to accompany.
func (b *background) outlasted() error {
	select {
	case <-b.done:
		return errors.New("the load ended too early to tell")
	default:
		return nil
	}
}

// during has a client call the server for so long, while something is done
// that no call may notice.
func (l *lab) during(ctx context.Context, from string, lasts time.Duration, do func() error) (calls, error) {
	const perSecond = 5
	load := l.startCalls(ctx, from, call.Options{
		Target: at("http", "web", portHTTP, "/"), Rate: perSecond, Count: int(lasts.Seconds()) * perSecond, Fresh: true,
	})
	err := do()
	if err == nil {
		err = load.outlasted()
	}
	got, callErr := load.wait()
	return got, errors.Join(err, callErr, got.all(answered))
}

// awaitEvent waits for an event of the scene's time in a namespace.
func (l *lab) awaitEvent(ctx context.Context, namespace, reason, contains string, within time.Duration) (*corev1.Event, error) {
	var found *corev1.Event
	err := eventually(ctx, within, func(ctx context.Context) error {
		events, err := l.kube.Clientset.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
		if err != nil {
			return err
		}
		for i := range events.Items {
			e := &events.Items[i]
			if strings.Contains(e.Message, contains) && !lastSeen(e).Before(l.began.Truncate(time.Second)) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no event %s with %q in %s", reason, contains, namespace)
	})
	return found, err
}

func lastSeen(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	for _, at := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if at.After(last) {
			last = at
		}
	}
	return last
}

var errNothingSeen = errors.New("nothing was seen")

package kubeapi

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
)

// Events writes Kubernetes events as one component. Repeated ones are counted
// up and floods are held back, as client-go does it.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	flushed     chan struct{}
}

// NewEvents makes a writer; Close it to stop its goroutines.
func NewEvents(c *Client, component string) *Events {
	b, flushed := record.NewBroadcaster(), make(chan struct{})
	b.StartRecordingToSink(eventSink{c, sync.OnceFunc(func() { close(flushed) })})
	return &Events{b, b.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component}), flushed}
}

// Normal writes an event of type Normal about ref.
func (e *Events) Normal(ref *corev1.ObjectReference, reason, message string) {
	e.recorder.Event(ref, corev1.EventTypeNormal, reason, message)
}

// Warning writes an event of type Warning about ref.
func (e *Events) Warning(ref *corev1.ObjectReference, reason, message string) {
	e.recorder.Event(ref, corev1.EventTypeWarning, reason, message)
}

// flushLimit is how long Close waits for an API server that does not answer.
const flushLimit = 2 * time.Second

// flushMark is the reason of an event that is not written: as they are written
// in their order, all before it have been when its turn comes.
const flushMark = "Flush"

// Close writes what is left to write, and stops.
func (e *Events) Close() {
	e.Normal(&corev1.ObjectReference{Kind: flushMark}, flushMark, "")
	select {
	case <-e.flushed:
	case <-time.After(flushLimit):
	}
	e.broadcaster.Shutdown()
}

type eventSink struct {
	c       *Client
	flushed func()
}

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	if e.Reason == flushMark {
		s.flushed()
		return e, nil
	}
	out := &corev1.Event{}
	return out, s.c.core.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(context.Background()).Into(out)
}

func (s eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	out := &corev1.Event{}
	return out, s.c.core.Put().Namespace(e.Namespace).Resource("events").Name(e.Name).Body(e).Do(context.Background()).Into(out)
}

func (s eventSink) Patch(e *corev1.Event, data []byte) (*corev1.Event, error) {
	out := &corev1.Event{}
	return out, s.c.core.Patch(types.StrategicMergePatchType).Namespace(e.Namespace).Resource("events").
		Name(e.Name).Body(data).Do(context.Background()).Into(out)
}

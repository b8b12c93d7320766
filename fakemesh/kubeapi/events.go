package kubeapi

import (
	"context"

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
}

// NewEvents makes a writer; Close it to stop its goroutines.
func NewEvents(c *Client, component string) *Events {
	b := record.NewBroadcaster()
	b.StartRecordingToSink(eventSink{c})
	return &Events{broadcaster: b, recorder: b.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component})}
}

// Normal writes an event of type Normal about ref.
func (e *Events) Normal(ref *corev1.ObjectReference, reason, message string) {
	e.recorder.Event(ref, corev1.EventTypeNormal, reason, message)
}

// Warning writes an event of type Warning about ref.
func (e *Events) Warning(ref *corev1.ObjectReference, reason, message string) {
	e.recorder.Event(ref, corev1.EventTypeWarning, reason, message)
}

// Close stops writing.
func (e *Events) Close() { e.broadcaster.Shutdown() }

type eventSink struct{ c *Client }

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
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

package kube

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	diagnoseWithin = 5 * time.Second // the wait is over: looking for the reason gets little time
	eventsShown    = 5
)

// rolloutError says why a rollout was not done in time.
func (c *Client) rolloutError(ctx context.Context, kind, namespace, name string, w workload, lastErr error) error {
	cause := context.Cause(ctx)
	what := fmt.Sprintf("rollout of %s %s/%s", kind, namespace, name)
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, cause) // interrupted: nobody waits for reasons
	}
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnoseWithin)
	defer cancel()
	if w.selector == nil { // it was never seen: ctx may have ended before the first look
		var err error
		if w, err = c.workload(dctx, kind, namespace, name); err != nil {
			return fmt.Errorf("%s: %w: %w", what, cause, errors.Join(lastErr, err))
		}
	}
	return fmt.Errorf("%s: %w: %s%s", what, cause, w.state, indent(c.diagnose(dctx, namespace, name, w)))
}

func indent(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("\n    " + l)
	}
	return b.String()
}

// diagnose tells of each pod that is not ready, and the last events about the
// workload, its ReplicaSets and its pods.
func (c *Client) diagnose(ctx context.Context, namespace, name string, w workload) []string {
	selector, err := metav1.LabelSelectorAsSelector(w.selector)
	if err != nil {
		return []string{"its selector: " + err.Error()}
	}
	pods, err := c.Clientset.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return []string{"list its pods: " + err.Error()}
	}
	var lines []string
	about := map[string]bool{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		about[pod.Name] = true
		if why := PodTrouble(pod); why != "" {
			lines = append(lines, fmt.Sprintf("pod %s: %s", pod.Name, why))
		}
	}
	if len(pods.Items) == 0 {
		lines = append(lines, "it has no pods")
	}
	events, err := c.Clientset.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return append(lines, "list events: "+err.Error())
	}
	related := func(e *corev1.Event) bool {
		n := e.InvolvedObject.Name
		return about[n] || n == name ||
			e.InvolvedObject.Kind == "ReplicaSet" && strings.HasPrefix(n, name+"-") ||
			e.InvolvedObject.Kind == "PersistentVolumeClaim" && strings.Contains(n, name)
	}
	return append(lines, lastEvents(events.Items, related)...)
}

// PodTrouble says why a pod is not ready, or "" when it is.
func PodTrouble(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "terminating"
	}
	var reasons []string
	for _, cond := range pod.Status.Conditions {
		if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
			return ""
		}
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			reasons = append(reasons, reasonText("not scheduled, "+cond.Reason, cond.Message))
		}
	}
	all := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, s := range all {
		if why := containerTrouble(s); why != "" {
			reasons = append(reasons, "container "+s.Name+" "+why)
		}
	}
	if len(reasons) == 0 {
		reasons = append(reasons, "not ready")
	}
	return string(pod.Status.Phase) + ", " + strings.Join(reasons, "; ")
}

func containerTrouble(s corev1.ContainerStatus) string {
	if s.Ready {
		return ""
	}
	var why string
	switch {
	case s.State.Waiting != nil:
		why = reasonText(s.State.Waiting.Reason, s.State.Waiting.Message)
	case s.State.Terminated != nil && s.State.Terminated.ExitCode == 0:
		return ""
	case s.State.Terminated != nil:
		why = terminated("ended", s.State.Terminated)
	default:
		why = "runs but is not ready"
	}
	if t := s.LastTerminationState.Terminated; t != nil {
		why += fmt.Sprintf(", %s, %d restarts", terminated("before that ended", t), s.RestartCount)
	}
	return why
}

func terminated(verb string, t *corev1.ContainerStateTerminated) string {
	return reasonText(fmt.Sprintf("%s with code %d (%s)", verb, t.ExitCode, t.Reason), strings.TrimSpace(t.Message))
}

func reasonText(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}

// lastEvents returns the newest events that are related, oldest first.
func lastEvents(events []corev1.Event, related func(*corev1.Event) bool) []string {
	var kept []corev1.Event
	for i := range events {
		if related(&events[i]) {
			kept = append(kept, events[i])
		}
	}
	sort.SliceStable(kept, func(i, j int) bool { return eventTime(&kept[i]).Before(eventTime(&kept[j])) })
	if len(kept) > eventsShown {
		kept = kept[len(kept)-eventsShown:]
	}
	lines := make([]string, len(kept))
	for i, e := range kept {
		lines[i] = fmt.Sprintf("event %s %s %s: %s", e.Type, e.Reason, e.InvolvedObject.Name, strings.TrimSpace(e.Message))
	}
	return lines
}

func eventTime(e *corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/results"
)

// flaw is what was wrong with a node's capture, and when it was last so.
type flaw struct {
	at   int64
	says string
}

func (c *capture) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.listening, c.told = map[string]time.Time{}, map[string]bool{}, map[string]bool{}
	c.flaws, c.restarts, c.silent = map[string]flaw{}, map[string]int32{}, map[string]bool{}
}

// await waits until each node has told something, but no longer than patience.
// Nodes that have not are a warning where others have, and an error where none has.
func (c *capture) await(ctx context.Context, patience time.Duration) error {
	patient, cancel := context.WithTimeoutCause(ctx, patience, errors.New("they took longer than "+patience.String()))
	defer cancel()
	for {
		absent := c.absent()
		if len(absent) == 0 {
			return nil
		}
		if pause.For(patient, captureEvery/4) == nil {
			continue
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case len(absent) == len(c.nodes):
			return fmt.Errorf("on none of %d nodes: %w: %s", len(c.nodes), context.Cause(patient), strings.Join(absent, "; "))
		}
		c.trouble("capture", "the capture did not start on every node: "+strings.Join(absent, "; "))
		return nil
	}
}

// absent are the nodes that have told nothing yet, with what is known of why.
func (c *capture) absent() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, node := range c.nodes {
		if c.told[node] {
			continue
		}
		says := c.flaws[node].says
		if says == "" {
			says = "it tells nothing"
		}
		all = append(all, node+": "+says)
	}
	return all
}

// look takes what the pods' own state says of captures that do not run, or that
// died and run again.
func (c *capture) look(pods []corev1.Pod) {
	for _, node := range c.nodes {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node }) {
			c.flawed(node, "it has no pod there")
		}
	}
	for i := range pods {
		c.flawed(pods[i].Spec.NodeName, kube.PodTrouble(&pods[i]))
		c.flawed(pods[i].Spec.NodeName, c.died(&pods[i]))
	}
}

// died says how a capture ended that has begun again since the last look.
func (c *capture) died(pod *corev1.Pod) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range pod.Status.ContainerStatuses {
		t := s.LastTerminationState.Terminated
		if t == nil || s.RestartCount <= c.restarts[pod.Name] {
			continue
		}
		c.restarts[pod.Name] = s.RestartCount
		return fmt.Sprintf("it ended with code %d (%s)", t.ExitCode, t.Reason)
	}
	return ""
}

func (c *capture) flawed(node, says string) {
	if says == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flaws[node] = flaw{c.now(), says}
}

// explain says of each node that a record lacks whether its capture ever began,
// and what was wrong with it then. The first record without a node is a warning.
func (c *capture) explain(w *results.Wire) {
	c.mu.Lock()
	var news []string
	for _, node := range c.nodes {
		was := c.silent[node]
		c.silent[node] = slices.Contains(w.Missing, node)
		if !c.silent[node] {
			continue
		}
		says := "its capture did not start"
		if c.told[node] {
			says = "its capture was silent for some of the time"
		}
		if f := c.flaws[node]; f.at >= w.From {
			says += ": " + f.says
		}
		if w.Why == nil {
			w.Why = map[string]string{}
		}
		w.Why[node] = says
		if !was {
			news = append(news, node+": "+says)
		}
	}
	c.mu.Unlock()
	for _, says := range news {
		c.trouble("capture", says)
	}
}

package agents

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
)

// Raise brings up the groups that begin with a phase, and returns when all of
// their agents have answered and their clocks are known. An agent that does not
// come in time is lost, a group of which none comes is an error.
func (f *Fleet) Raise(ctx context.Context, phase string) error {
	for _, g := range f.groups {
		if g.from != phase {
			continue
		}
		if err := f.create(ctx, g); err != nil {
			return fmt.Errorf("raise the agents %s: %w", g.Name, err)
		}
	}
	for _, g := range f.groups {
		if g.from != phase {
			continue
		}
		if err := f.await(ctx, g); err != nil {
			return fmt.Errorf("raise the agents %s: %w", g.Name, err)
		}
	}
	return nil
}

// create makes a group's objects, and their namespace before the first.
func (f *Fleet) create(ctx context.Context, g *group) error {
	api := f.Cluster.Clientset
	if !f.raised {
		if err := f.Cluster.RemoveNamespace(ctx, Namespace); err != nil {
			return fmt.Errorf("clear what an earlier run left: %w", err)
		}
		f.raised = true
		if _, err := api.CoreV1().Namespaces().Create(ctx, namespace(), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	plan, err := configMap(g.Agents, g.plan)
	if err != nil {
		return err
	}
	if _, err := api.CoreV1().ServiceAccounts(Namespace).Create(ctx, serviceAccount(g.Agents), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := api.CoreV1().ConfigMaps(Namespace).Create(ctx, plan, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = api.BatchV1().Jobs(Namespace).Create(ctx, job(g.Agents, f.Image), metav1.CreateOptions{})
	return err
}

// await waits for a group's agents.
func (f *Fleet) await(ctx context.Context, g *group) error {
	deadline := time.Now().Add(f.Ready)
	last := map[int]string{} // what keeps an agent from being ready
	for {
		if err := f.greet(ctx, g, last); err != nil {
			return err
		}
		if len(last) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
		if err := pause.For(ctx, f.Poll); err != nil {
			return err
		}
	}
	if len(last) == len(g.members) {
		return fault.NewEnvironment(fmt.Errorf("no agent was ready within %s: %s", f.Ready, last[0]),
			"see the pods of namespace "+Namespace+"; the cluster may lack room or the agent's image")
	}
	for index, why := range last {
		g.members[index].lose("not ready within %s: %s", f.Ready, why)
		f.Warn("agent "+g.members[index].name(), g.members[index].why())
	}
	return nil
}

// greet speaks to the agents that have not been spoken to yet, and leaves in
// last why some do not answer.
func (f *Fleet) greet(ctx context.Context, g *group, last map[int]string) error {
	pods, err := f.Cluster.Clientset.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: groupLabel + "=" + g.Name})
	if err != nil {
		return fmt.Errorf("list the agents: %w", err)
	}
	for _, m := range g.members {
		if m.pod != "" {
			continue
		}
		last[m.index] = "there is no pod"
		for i := range pods.Items {
			if pod := &pods.Items[i]; indexOf(pod) == m.index {
				err := f.meet(ctx, m, pod)
				if err == nil {
					delete(last, m.index)
					break
				}
				if fault.KindOf(err) != 0 {
					return err
				}
				last[m.index] = err.Error()
			}
		}
	}
	return nil
}

// meet makes a pod an agent's, if it is one.
func (f *Fleet) meet(ctx context.Context, m *member, pod *corev1.Pod) error {
	if why := trouble(pod); why != "" {
		return errors.New(why)
	}
	if pod.Status.Phase != corev1.PodRunning {
		return fmt.Errorf("pod %s is %s", pod.Name, pod.Status.Phase)
	}
	if stack.Meshed(pod) != m.group.Meshed {
		return fault.NewEnvironment(fmt.Errorf("pod %s has a proxy: %t, and should: %t", pod.Name, stack.Meshed(pod), m.group.Meshed),
			"`linkerd check` tells whether the injector works")
	}
	meeting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m.reach(func(ctx context.Context, pod string) (net.Conn, error) {
		return f.Cluster.Dial(ctx, Namespace, pod, wire.Port)
	}, pod.Name)
	err := f.introduce(meeting, m)
	if err != nil {
		m.close()
		m.pod, m.client = "", nil
		return err
	}
	m.node = pod.Spec.NodeName
	if node, err := f.Cluster.Clientset.CoreV1().Nodes().Get(ctx, m.node, metav1.GetOptions{}); err == nil {
		m.zone = node.Labels[corev1.LabelTopologyZone]
	} else if !apierrors.IsNotFound(err) {
		f.Log.Debug("the zone of an agent is not known", "agent", m.name(), "error", err)
	}
	return nil
}

// introduce checks that an agent is the one that is meant, and compares clocks.
func (f *Fleet) introduce(ctx context.Context, m *member) error {
	var hello wire.Hello
	if err := m.ask(ctx, "GET", wire.HelloPath, nil, &hello); err != nil {
		return err
	}
	want := wire.Hello{
		Version: wire.Version, Run: f.Run, Group: m.group.Name, Index: m.index, Pod: hello.Pod, Arch: runtime.GOARCH,
	}
	if hello != want {
		return fault.NewEnvironment(fmt.Errorf("pod %s says that it is %+v, and should be %+v", m.pod, hello, want),
			"agents must be of this meshsim's bundle and this machine's architecture, so that they draw the same schedule: `meshsim bundle build`")
	}
	begin, err := measureClock(ctx, f.Begin, m.clock)
	if err != nil {
		return err
	}
	m.begin = &begin
	return nil
}

// isRaised tells whether the group has agents.
func (g *group) isRaised() bool {
	for _, m := range g.members {
		if m.pod != "" {
			return true
		}
	}
	return false
}

// podTrouble looks at why an agent's stream broke: "" when its pod is there.
func (f *Fleet) podTrouble(ctx context.Context, m *member) string {
	pod, err := f.Cluster.Clientset.CoreV1().Pods(Namespace).Get(ctx, m.pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "its pod has gone"
	}
	if err != nil {
		return "" // the API server is away; so is the agent, for now
	}
	return trouble(pod)
}

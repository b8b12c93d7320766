package kind

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/kube"
)

// Status is how a cluster is at this moment.
type Status struct {
	Cluster    *Cluster     `json:"cluster"` // nil when there is no record: none, or a half-made one
	Containers []Container  `json:"containers"`
	Nodes      []NodeStatus `json:"nodes"`              // empty when the API does not answer
	APIError   string       `json:"apiError,omitempty"` // why it does not; "" when it does
}

// Container is one of the cluster's containers.
type Container struct {
	Name  string `json:"name"`
	Role  string `json:"role"`  // node, registry or aws
	State string `json:"state"` // docker's: running, paused, exited, …
	Ports string `json:"ports"` // as docker prints them
}

// NodeStatus is one node as Kubernetes sees it.
type NodeStatus struct {
	Name      string `json:"name"`
	Zone      string `json:"zone,omitempty"`
	NodeGroup string `json:"nodeGroup,omitempty"`
	Version   string `json:"version"`
	Ready     bool   `json:"ready"`
}

// Ready counts the ready nodes.
func (s *Status) Ready() int {
	n := 0
	for _, node := range s.Nodes {
		if node.Ready {
			n++
		}
	}
	return n
}

// StatusOptions says which cluster to look at.
type StatusOptions struct {
	Name   string
	Engine *engine.Engine // nil when none runs
	Cache  cache.Dir
	Runner command.Runner
}

const statusTimeout = 10 * time.Second

// GetStatus looks at a cluster and changes nothing. A cluster that is not there
// is no error: its Status is empty.
func GetStatus(ctx context.Context, o StatusOptions) (*Status, error) {
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	c, err := readRecord(recordPath(o.Cache, o.Name))
	if err != nil {
		return nil, err
	}
	s := &Status{Cluster: c, Containers: []Container{}, Nodes: []NodeStatus{}}
	if o.Engine == nil {
		return s, nil
	}
	for _, label := range []string{nodeLabel, Label} {
		found, err := containersWith(ctx, o, label)
		if err != nil {
			return nil, err
		}
		s.Containers = append(s.Containers, found...)
	}
	if c == nil {
		return s, nil
	}
	nodes, err := nodeStatuses(ctx, c)
	if err != nil {
		s.APIError = err.Error()
	}
	s.Nodes = append(s.Nodes, nodes...)
	return s, nil
}

func containersWith(ctx context.Context, o StatusOptions, label string) ([]Container, error) {
	format := fmt.Sprintf("{{.Names}}\t{{.State}}\t{{.Label %q}}\t{{.Ports}}", roleLabel)
	out, err := o.Runner.Run(ctx, o.Engine.Docker("ps", "--all", "--filter", "label="+label+"="+o.Name, "--format", format))
	if err != nil {
		return nil, fmt.Errorf("list the containers of cluster %s: %w", o.Name, err)
	}
	var found []Container
	for line := range strings.Lines(string(out.Stdout)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) != 4 {
			continue
		}
		if fields[2] == "" {
			fields[2] = "node"
		}
		found = append(found, Container{Name: fields[0], State: fields[1], Role: fields[2], Ports: fields[3]})
	}
	slices.SortFunc(found, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func nodeStatuses(ctx context.Context, c *Cluster) ([]NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, err := kube.New(c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	list, err := client.Clientset.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var nodes []NodeStatus
	for _, n := range list.Items {
		nodes = append(nodes, NodeStatus{Name: n.Name, Zone: n.Labels[zoneLabel], NodeGroup: n.Labels[groupLabel],
			Version: n.Status.NodeInfo.KubeletVersion, Ready: nodeReady(n)})
	}
	return nodes, nil
}

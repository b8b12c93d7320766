package kind

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
)

// nodeNet is what the delay rules need of a node.
type nodeNet struct {
	Node
	address string // of the node
	podCIDR string // of its pods
}

// nodeLink is a node's link on the nodes' network.
const nodeLink = "eth0"

// tcBatch makes packets from one node to workers in other zones wait half the
// round trip. The other half is the way back's. A band of its own takes them;
// the prio discipline never puts anything else there.
func tcBatch(node nodeNet, all []nodeNet, roundTrip time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "qdisc replace dev %s root handle 1: prio bands 4\n", nodeLink)
	fmt.Fprintf(&b, "qdisc replace dev %s parent 1:4 handle 40: netem delay %dus limit 10000\n", nodeLink, (roundTrip / 2).Microseconds())
	for _, other := range all {
		if other.Zone == "" || other.Zone == node.Zone {
			continue
		}
		for _, prefix := range []string{other.address + "/32", other.podCIDR} {
			if prefix != "" {
				fmt.Fprintf(&b, "filter add dev %s parent 1: protocol ip prio 1 u32 match ip dst %s flowid 1:4\n", nodeLink, prefix)
			}
		}
	}
	return b.String()
}

// zonesOf counts the zones that have a node.
func zonesOf(nodes []nodeNet) int {
	zones := map[string]bool{}
	for _, n := range nodes {
		if n.Zone != "" {
			zones[n.Zone] = true
		}
	}
	return len(zones)
}

// addDelay sets the delay between zones on every worker. Where the kernel
// cannot, note says so and nothing is changed.
func addDelay(ctx context.Context, runner command.Runner, e *engine.Engine, nodes []nodeNet, roundTrip time.Duration) (note string, err error) {
	if roundTrip < 2*time.Microsecond || zonesOf(nodes) < 2 {
		return "", nil
	}
	worker := nodes[0]
	for _, n := range nodes {
		if n.Zone != "" {
			worker = n
			break
		}
	}
	// lo carries nothing that a moment's queue would hurt.
	try := e.Docker("exec", worker.Name, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1us")
	if _, err := runner.Run(ctx, try); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return fmt.Sprintf("the %s between zones are not emulated: this kernel has no netem (sch_netem)", roundTrip), nil
	}
	if _, err := runner.Run(ctx, e.Docker("exec", worker.Name, "tc", "qdisc", "del", "dev", "lo", "root")); err != nil {
		return "", fmt.Errorf("take the trial of netem away: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		if node.Zone == "" {
			continue
		}
		g.Go(func() error {
			cmd := e.Docker("exec", "--interactive", node.Name, "tc", "-batch", "-")
			cmd.Stdin = strings.NewReader(tcBatch(node, nodes, roundTrip))
			if _, err := runner.Run(ctx, cmd); err != nil {
				return fmt.Errorf("set the delay between zones on %s: %w", node.Name, err)
			}
			return nil
		})
	}
	return "", g.Wait()
}

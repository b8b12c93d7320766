package kind

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
)

// serviceSubnet is where Services have their addresses: kind's own default.
const serviceSubnet = "10.96.0.0/16"

// strayRules refuse what is still addressed to a Service after kube-proxy had
// its turn. Until kube-proxy knows a new Service such packets would leave by the
// default route, and whoever answers out there keeps the connection: an API
// server then asks it, and not metrics-server, for as long as it lives.
const strayRules = `*filter
-I OUTPUT -d ` + serviceSubnet + ` -j REJECT
-I FORWARD -d ` + serviceSubnet + ` -j REJECT
COMMIT
`

// keepServicesInside sets strayRules on every node.
func keepServicesInside(ctx context.Context, runner command.Runner, e *engine.Engine, nodes []Node) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		g.Go(func() error {
			cmd := e.Docker("exec", "--interactive", node.Name, "iptables-restore", "--noflush")
			cmd.Stdin = strings.NewReader(strayRules)
			if _, err := runner.Run(ctx, cmd); err != nil {
				return fmt.Errorf("keep packets to Services on %s inside: %w", node.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

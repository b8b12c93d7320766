package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
)

// ground is what stands before the first phase; everything else of the stack
// is put there by the scenario's steps, so it is taken away first.
var ground = []string{"rbac", "metrics-server", "monitoring", "shop"}

// reset brings the cluster to the scenario's start: the shop unmeshed and with
// an empty order book, and nothing of an earlier rehearsal.
func (r *rehearsal) reset(ctx context.Context) error {
	all := stack.Components()
	for _, c := range slices.Backward(all) {
		if slices.Contains(ground, c.Name()) {
			continue
		}
		if err := c.Remove(ctx, r.stack); err != nil {
			return fmt.Errorf("clear what an earlier run left: %w", err)
		}
	}
	for _, name := range ground {
		c, err := stack.ByName(name)
		if err != nil {
			return err
		}
		if err := c.Install(ctx, r.stack); err != nil {
			return err
		}
	}
	for _, name := range ground {
		c, err := stack.ByName(name)
		if err != nil {
			return err
		}
		if err := c.Ready(ctx, r.stack); err != nil {
			return err
		}
	}
	if err := probes.ClearOrders(ctx, r.database()); err != nil {
		return fmt.Errorf("empty the order book: %w", err)
	}
	return r.awaitEdge(ctx)
}

// edgePatience is how long the load balancer may take to find its targets healthy.
const edgePatience = 2 * time.Minute

// awaitEdge waits until every service that customers call answers through the
// load balancer.
func (r *rehearsal) awaitEdge(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, edgePatience, fmt.Errorf("no answer within %s", edgePatience))
	defer cancel()
	task := r.Progress.Start("wait for the load balancer")
	for _, path := range edgePaths {
		if err := awaitOK(ctx, "http://"+r.Cluster.HTTP+path); err != nil {
			err = fault.NewEnvironment(fmt.Errorf("the shop does not answer at the load balancer: %w", err),
				"`meshsim status` shows the cluster; `meshsim down` and `meshsim up` raise it anew")
			task.Fail(err)
			return err
		}
	}
	task.Done("")
	return nil
}

// edgePaths is one path a service that has a REST side.
var edgePaths = []string{
	"/api/catalog/products/p-0001", "/api/inventory/p-0001", "/api/customers/c-0001", "/api/recommendations?customer=c-0001",
}

func awaitOK(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 3 * time.Second}
	defer client.CloseIdleConnections()
	for {
		err := getOK(ctx, client, url)
		if err == nil {
			return nil
		}
		if sleepErr := pause.For(ctx, 500*time.Millisecond); sleepErr != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func getOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return nil
}

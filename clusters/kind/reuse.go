package kind

import (
	"context"
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
)

// A standing cluster gets this long to show that all its nodes are ready. A
// healthy one answers at once; one that was just woken takes a while.
const (
	reuseTimeout = 15 * time.Second
	wakeTimeout  = time.Minute
)

// reuse returns the standing cluster when it is what is wanted, or nil and the
// reason. Of another bundle with the same node image only what stands beside
// the nodes is exchanged.
func (r *raiser) reuse(ctx context.Context, w wanted) (_ *Cluster, why string, err error) {
	c, err := readRecord(recordPath(r.Cache, r.Name))
	switch {
	case err != nil:
		return nil, err.Error(), nil // what cannot be read is half made
	case c == nil:
		return nil, "there is no record of one", nil
	case c.Topology.Hash() != r.Topology.Hash():
		return nil, "it has another shape", nil
	case c.NodeImage.Digest != w.node.Digest:
		return nil, "it has another node image", nil
	}
	if why, err := r.broken(ctx, c); err != nil || why != "" {
		return nil, why, err
	}
	if err := r.renew(ctx, c, w); err != nil {
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		r.Log.Info("what stands beside the nodes could not be renewed", "err", err)
		return nil, err.Error(), nil
	}
	c.Topology, c.Reused = r.Topology, true // the name may be another
	return c, "", writeRecord(recordPath(r.Cache, r.Name), c)
}

// broken tells what is wrong with a cluster's nodes, "" when nothing is. Nodes
// that a rehearsal paused, and left so, are woken.
func (r *raiser) broken(ctx context.Context, c *Cluster) (why string, err error) {
	states, err := nodeStates(ctx, r.Runner, r.Engine, c.Name)
	if err != nil {
		return "", err
	}
	want := nodeNames(c.Nodes)
	timeout := reuseTimeout
	for _, name := range want {
		switch state := states[name]; state {
		case "running":
		case "paused":
			if _, err := r.Runner.Run(ctx, r.Engine.Docker("unpause", name)); err != nil {
				return "", fmt.Errorf("wake node %s: %w", name, err)
			}
			timeout = wakeTimeout
		case "":
			return "node " + name + " is gone", nil
		default:
			return "node " + name + " is " + state, nil
		}
	}
	client, err := r.connect(c.Kubeconfig)
	if err != nil {
		return err.Error(), nil
	}
	if _, err := awaitNodes(ctx, client, want, timeout); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return err.Error(), nil
	}
	return "", nil
}

// renew exchanges what stands beside the nodes where it does not run, is of
// another bundle, or listens elsewhere than is asked for.
func (r *raiser) renew(ctx context.Context, c *Cluster, w wanted) error {
	found, err := r.beside.inspect(ctx)
	if err != nil {
		return err
	}
	good := func(name, digest string) bool {
		have, ok := found[name]
		return ok && have.state == "running" && have.bundleHash == r.bundleHash && have.image == digest
	}
	httpPort, grpcPort := r.ports(c)
	registry := !good(registryName(c.Name), w.registry.Digest)
	aws := !good(awsName(c.Name), w.aws.Digest) || httpPort != portOf(c.HTTP) || grpcPort != portOf(c.GRPC)
	if !registry && !aws {
		return nil
	}
	if err := r.mirrors(); err != nil {
		return err
	}
	if err := r.images.LoadIntoEngine(ctx, r.Engine, r.Runner, "registry", "fakeaws"); err != nil {
		return err
	}
	for name, old := range map[string]bool{registryName(c.Name): registry, awsName(c.Name): aws} {
		if _, exists := found[name]; exists && old {
			if err := r.beside.remove(ctx, name); err != nil {
				return err
			}
		}
	}
	if err := r.startBeside(ctx, w, registry, aws, httpPort, grpcPort); err != nil {
		return err
	}
	c.BundleHash = r.bundleHash
	return r.settleBeside(ctx, c)
}

// ports are those asked for, or else those that the cluster has.
func (r *raiser) ports(c *Cluster) (httpPort, grpcPort int) {
	httpPort, grpcPort = r.HTTPPort, r.GRPCPort
	if httpPort == 0 {
		httpPort = portOf(c.HTTP)
	}
	if grpcPort == 0 {
		grpcPort = portOf(c.GRPC)
	}
	return httpPort, grpcPort
}

// nodeStates tells docker's state of each of a cluster's nodes.
func nodeStates(ctx context.Context, runner command.Runner, e *engine.Engine, cluster string) (map[string]string, error) {
	out, err := runner.Run(ctx, e.Docker("ps", "--all", "--filter", "label="+nodeLabel+"="+cluster, "--format", "{{.Names}}\t{{.State}}"))
	if err != nil {
		return nil, fmt.Errorf("list the cluster's nodes: %w", err)
	}
	states := map[string]string{}
	for line := range strings.Lines(string(out.Stdout)) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), "\t")
		states[name] = state
	}
	return states, nil
}

package steps

import (
	"context"
	"errors"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// CheckMesh keeps what `linkerd check` says, where the mesh is Linkerd and its
// command line is at hand. What it finds is evidence, not an error; when it
// cannot be understood the record says so.
func CheckMesh(ctx context.Context, env *Env, when string, dataPlane bool) error {
	if env.Stack.Mesh != stack.MeshLinkerd || env.Runner == nil {
		return nil
	}
	task := env.Progress.Start("linkerd check " + when)
	seen, err := probes.LinkerdCheck(ctx, env.Runner, probes.CheckOptions{
		Kubeconfig: env.Stack.Kubeconfig, Version: stack.MeshVersion(env.Stack), DataPlane: dataPlane,
	})
	switch {
	case errors.Is(err, probes.ErrNoLinkerd):
		task.Done("the command linkerd is not on the PATH")
		return nil
	case ctx.Err() != nil:
		task.Fail(context.Cause(ctx))
		return context.Cause(ctx)
	case err != nil:
		task.Fail(err)
		env.Record.Warn("linkerd check "+when, err.Error())
		return nil
	}
	seen.When = when
	task.Done(probes.CheckWords(seen))
	return env.Record.Probe(results.ProbeLinkerdCheck, seen)
}

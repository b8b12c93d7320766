// Package steps is what a scenario does to the cluster, one file a step. A
// step that changes something lasting can be undone; the harness undoes in
// reverse order.
package steps

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

// Step is one thing done to the cluster. Execute returns when it is in effect.
type Step interface {
	Execute(ctx context.Context) error
}

// Undoer is a step that changed something lasting. Undo is idempotent and may
// be called after an Execute that failed half-way.
type Undoer interface {
	Undo(ctx context.Context) error
}

// Recorder takes what a step observed.
type Recorder interface {
	Note(detail string)
	// Warn tells of evidence that is missing or odd.
	Warn(what, detail string)
	Probe(name string, data any) error
}

// Env is what steps act on.
type Env struct {
	Kube     *kube.Client
	Stack    *stack.Env
	Rollout  *Rollout // how far the shop's services have come
	Record   Recorder
	Runner   command.Runner // of programs on this machine
	Log      *slog.Logger
	Progress *progress.Reporter
}

// New makes the step that a scenario names.
func New(s scenarios.Step, env *Env) (Step, error) {
	switch o := s.Options.(type) {
	case *scenarios.Install:
		return newInstall(o, env)
	case *scenarios.MoveSecrets:
		return &moveSecrets{env: env}, nil
	case *scenarios.RotateSecrets:
		return newRotateSecrets(env), nil
	case *scenarios.Inject:
		return &inject{options: o, env: env}, nil
	case *scenarios.AwaitAuthenticated:
		return &awaitAuthenticated{cycle: time.Duration(o.Cycle), env: env, prom: env.Kube}, nil
	case *scenarios.Enforce:
		return &enforce{options: o, env: env}, nil
	case *scenarios.RestartVault:
		return &restartVault{env: env}, nil
	case *scenarios.MeasureAddedLatency:
		return &measureAddedLatency{options: o, env: env}, nil
	case *scenarios.ProbePlaintext:
		return &probePlaintext{env: env}, nil
	case *scenarios.ProbeAuthorisation:
		return &probeAuthorisation{env: env}, nil
	case *scenarios.UpgradeMesh:
		return newUpgradeMesh(o, env)
	case *scenarios.UninstallMesh:
		return newUninstallMesh(o, env)
	case *scenarios.Autoscale:
		return &autoscale{options: o, env: env}, nil
	case *scenarios.AwaitReplicas:
		return &awaitReplicas{options: o, env: env}, nil
	case *scenarios.RestartReplica:
		return newRestartReplica(env), nil
	case *scenarios.Behave:
		return &behave{options: o, env: env}, nil
	case *scenarios.Canary:
		return &canary{options: o, env: env}, nil
	case *scenarios.EndCanary:
		return &endCanary{options: o, env: env}, nil
	default:
		return nil, fault.NewInvalid(fmt.Errorf("step %q is not known here", s.Name), "see `meshsim scenarios explain`")
	}
}

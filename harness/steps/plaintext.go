package steps

import (
	"context"
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// probePlaintext tries to call every service from a pod without a proxy.
type probePlaintext struct{ env *Env }

// grpcPort is where the shop's services call each other.
const grpcPort = 9090

func (s *probePlaintext) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("try plaintext calls")
	var targets []string
	for _, name := range s.env.Rollout.Services {
		targets = append(targets, fmt.Sprintf("%s=%s.%s:%d", name, name, shopNamespace, grpcPort))
	}
	var got results.Plaintext
	args := []string{"--targets=" + strings.Join(targets, ",")}
	if err := agentRun(ctx, s.env, strangerManifest, "stranger", args, 5*time.Minute, &got); err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%d refused, %d accepted of %d", got.Refused, got.Accepted, got.Attempts))
	return s.env.Record.Probe(results.ProbePlaintext, got)
}

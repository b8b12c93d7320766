package steps

import (
	"context"

	"meshsim.dev/meshsim/clusters/stack"
)

// moveSecrets puts the shop's secrets into Vault. Services go on reading their
// files until they are rolled.
type moveSecrets struct{ env *Env }

func (s *moveSecrets) Execute(ctx context.Context) error {
	if err := stack.MoveSecrets(ctx, s.env.Stack); err != nil {
		return err
	}
	s.env.Rollout.secretsMoved = true
	return nil
}

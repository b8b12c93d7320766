package steps

import (
	"context"
	"fmt"

	"meshsim.dev/meshsim/clusters/stack"
)

// moveSecrets puts the shop's secrets into Vault, and beside the shop what renews
// them from then on. Services go on reading their files until they are rolled.
type moveSecrets struct{ env *Env }

func (s *moveSecrets) Execute(ctx context.Context) error {
	if err := stack.MoveSecrets(ctx, s.env.Stack); err != nil {
		return err
	}
	s.env.Rollout.secretsMoved = true
	if err := s.env.Rollout.Shop.Install(ctx, s.env.Rollout.env(s.env)); err != nil {
		return fmt.Errorf("install what renews the secrets: %w", err)
	}
	return nil
}

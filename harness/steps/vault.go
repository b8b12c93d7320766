package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// restartVault deletes Vault's pod and watches it come back unsealed by its
// KMS seal, with nobody typing a key.
type restartVault struct{ env *Env }

func (s *restartVault) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("restart Vault")
	seen, err := s.restart(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	if *seen.UnsealedAfterMs < 0 {
		// A budget is broken by this, not the environment: the verdict says so.
		task.Fail(fmt.Errorf("still sealed: Vault did not unseal itself within %s", restartPatience))
	} else {
		task.Done(fmt.Sprintf("unsealed after %d ms by %s", *seen.UnsealedAfterMs, seen.Seal))
	}
	return s.env.Record.Probe(results.ProbeVaultUnseal, seen)
}

func (s *restartVault) restart(ctx context.Context) (results.VaultUnseal, error) {
	keys := false // this step holds no unseal key at all
	seen := results.VaultUnseal{OperatorKeysUsed: &keys}
	back, err := restartPod(ctx, s.env.Kube.Clientset.CoreV1().Pods(probes.VaultNamespace), probes.VaultPod, "Vault's pod")
	if err != nil {
		return seen, err
	}
	unsealed, err := after(ctx, time.Now(), func() error {
		if err := back(); err != nil {
			return err
		}
		status, err := probes.AskSeal(ctx, s.env.Kube)
		if err != nil {
			return err
		}
		seen.Restarted, seen.Seal = true, status.Type
		if !status.Initialized || status.Sealed {
			return errors.New("it is sealed")
		}
		return nil
	})
	if err != nil {
		return seen, fmt.Errorf("wait for Vault to unseal itself: %w", err)
	}
	seen.UnsealedAfterMs = &unsealed
	return seen, nil
}

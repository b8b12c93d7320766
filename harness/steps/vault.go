package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// restartVault deletes Vault's pod and watches it come back unsealed by its
// KMS seal, with nobody typing a key.
type restartVault struct{ env *Env }

const unsealPatience = 3 * time.Minute

func (s *restartVault) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("restart Vault")
	seen, err := s.restart(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	if *seen.UnsealedAfterMs < 0 {
		// A budget is broken by this, not the environment: the verdict says so.
		task.Fail(fmt.Errorf("still sealed: Vault did not unseal itself within %s", unsealPatience))
	} else {
		task.Done(fmt.Sprintf("unsealed after %d ms by %s", *seen.UnsealedAfterMs, seen.Seal))
	}
	return s.env.Record.Probe(results.ProbeVaultUnseal, seen)
}

func (s *restartVault) restart(ctx context.Context) (results.VaultUnseal, error) {
	pods := s.env.Kube.Clientset.CoreV1().Pods(probes.VaultNamespace)
	old, err := pods.Get(ctx, probes.VaultPod, metav1.GetOptions{})
	if err != nil {
		return results.VaultUnseal{}, fmt.Errorf("find Vault's pod: %w", err)
	}
	if err := pods.Delete(ctx, probes.VaultPod, metav1.DeleteOptions{}); err != nil {
		return results.VaultUnseal{}, fmt.Errorf("delete Vault's pod: %w", err)
	}
	start, keys := time.Now(), false // this step holds no unseal key at all
	seen := results.VaultUnseal{OperatorKeysUsed: &keys}
	for after := int64(-1); ; {
		status, err := s.newStatus(ctx, string(old.UID))
		if err == nil {
			seen.Restarted, seen.Seal = true, status.Type
			if status.Initialized && !status.Sealed {
				after = time.Since(start).Milliseconds()
			}
		}
		if after >= 0 || time.Since(start) > unsealPatience {
			seen.UnsealedAfterMs = &after
			return seen, nil
		}
		if err := kube.Sleep(ctx, 500*time.Millisecond); err != nil {
			return results.VaultUnseal{}, fmt.Errorf("wait for Vault to unseal itself: %w", err)
		}
	}
}

// newStatus asks the pod that took the old one's place for its seal.
func (s *restartVault) newStatus(ctx context.Context, oldUID string) (probes.SealStatus, error) {
	var status probes.SealStatus
	pod, err := s.env.Kube.Clientset.CoreV1().Pods(probes.VaultNamespace).Get(ctx, probes.VaultPod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && string(pod.UID) == oldUID) {
		return status, errors.New("the new pod is not there yet")
	}
	if err != nil {
		return status, err
	}
	return probes.AskSeal(ctx, s.env.Kube)
}

package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/results"
)

// restartVault deletes Vault's pod and watches it come back unsealed by its
// KMS seal, with nobody typing a key.
type restartVault struct{ env *Env }

const (
	vaultNamespace = "vault"
	vaultPod       = "vault-0"
	unsealPatience = 3 * time.Minute
)

type sealStatus struct {
	Type        string `json:"type"`
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
}

func (s *restartVault) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("restart Vault")
	seen, err := s.restart(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("unsealed after %d ms by %s", *seen.UnsealedAfterMs, seen.Seal))
	return s.env.Record.Probe(results.ProbeVaultUnseal, seen)
}

func (s *restartVault) restart(ctx context.Context) (results.VaultUnseal, error) {
	ctx, cancel := context.WithTimeout(ctx, unsealPatience)
	defer cancel()
	pods := s.env.Kube.Clientset.CoreV1().Pods(vaultNamespace)
	old, err := pods.Get(ctx, vaultPod, metav1.GetOptions{})
	if err != nil {
		return results.VaultUnseal{}, fmt.Errorf("find Vault's pod: %w", err)
	}
	if err := pods.Delete(ctx, vaultPod, metav1.DeleteOptions{}); err != nil {
		return results.VaultUnseal{}, fmt.Errorf("delete Vault's pod: %w", err)
	}
	start, keys := time.Now(), false // this step holds no unseal key at all
	for {
		status, err := s.newStatus(ctx, string(old.UID))
		if err == nil && status.Initialized && !status.Sealed {
			after := time.Since(start).Milliseconds()
			return results.VaultUnseal{Restarted: true, Seal: status.Type, UnsealedAfterMs: &after, OperatorKeysUsed: &keys}, nil
		}
		if sleepErr := kube.Sleep(ctx, 500*time.Millisecond); sleepErr != nil {
			return results.VaultUnseal{}, fmt.Errorf("Vault did not unseal itself within %s: %w", unsealPatience, errors.Join(err, sleepErr))
		}
	}
}

// newStatus asks the pod that took the old one's place for its seal.
func (s *restartVault) newStatus(ctx context.Context, oldUID string) (sealStatus, error) {
	var status sealStatus
	pod, err := s.env.Kube.Clientset.CoreV1().Pods(vaultNamespace).Get(ctx, vaultPod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && string(pod.UID) == oldUID) {
		return status, errors.New("the new pod is not there yet")
	}
	if err != nil {
		return status, err
	}
	raw, err := s.env.Kube.PodGet(ctx, vaultNamespace, "https:"+vaultPod+":8200", "/v1/sys/seal-status")
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal(raw, &status); err != nil {
		return status, fmt.Errorf("read Vault's seal status: %w", err)
	}
	return status, nil
}

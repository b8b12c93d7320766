package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack/vaultapi"
)

// What is where in Vault.
const (
	kubernetesAuth = "kubernetes" // auth mount
	pkiMount       = "pki"
	kvMount        = "secret"

	vaultAudience  = "vault" // of the service account tokens that are shown to Vault
	setupAccount   = "meshsim-setup"
	setupRole      = "meshsim-setup"
	setupTokenLife = 10 * time.Minute
	issuerRole     = "cert-manager"

	// configuredMark on the setup account says that Vault was set up to its end.
	configuredMark = "meshsim.dev/vault-configured"
)

// The mesh's trust anchor: its key is made in Vault and never leaves it.
const (
	trustAnchorName = "root.linkerd.cluster.local"
	trustAnchorLife = "87600h" // ten years
)

// errHalfSetUp is a Vault that is initialised but was never set up to its end:
// the root token of its init is lost.
var errHalfSetUp = errors.New("the Vault is initialised but was not set up to its end")

// setUpVault initialises a new Vault and sets it up; of one that is set up it
// checks that it lets meshsim in.
func setUpVault(ctx context.Context, env *Env) error {
	door, err := openVault(ctx, env)
	if err != nil {
		return err
	}
	defer door.Close()
	status, err := firstStatus(ctx, env, door)
	if err != nil {
		return err
	}
	configured, err := vaultConfigured(ctx, env)
	if err != nil {
		return err
	}
	switch {
	case !status.Initialized:
		return initVault(ctx, env, door)
	case !configured:
		return errHalfSetUp
	}
	if err := waitActive(ctx, door); err != nil {
		return err
	}
	return until(ctx, "log in to Vault", time.Second, func(ctx context.Context) error {
		return inVault(ctx, env, func(*vaultapi.Client) error { return nil })
	})
}

// firstStatus waits until Vault's listener answers. When it never does, the
// rollout's own account of the pod says why.
func firstStatus(ctx context.Context, env *Env, door *vaultDoor) (vaultapi.SealStatus, error) {
	var status vaultapi.SealStatus
	err := until(ctx, "wait for Vault to answer", time.Second, func(ctx context.Context) error {
		s, err := door.SealStatus(ctx)
		status = s
		return err
	})
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(err, env.Kube.WaitRollout(ctx, "statefulset", NamespaceVault, vaultRelease))
	}
	return status, err
}

func waitActive(ctx context.Context, door *vaultDoor) error {
	return until(ctx, "wait for Vault to unseal itself", 500*time.Millisecond, door.Active)
}

// initVault holds the root token for as long as the setup takes; it is revoked
// whether that succeeds or not.
func initVault(ctx context.Context, env *Env, door *vaultDoor) error {
	token, err := door.Init(ctx)
	if err != nil {
		return fmt.Errorf("initialise Vault: %w", err)
	}
	root := door.With(token)
	if err := waitActive(ctx, door); err != nil {
		return err
	}
	setupErr := configureVault(ctx, root)
	revoke, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	defer cancel()
	if err := root.RevokeSelf(revoke); err != nil {
		return errors.Join(setupErr, fmt.Errorf("revoke the root token: %w", err))
	}
	if setupErr != nil {
		return fmt.Errorf("set up Vault: %w", setupErr)
	}
	return markConfigured(ctx, env)
}

// configureVault makes everything that later steps need, so that none of them
// needs a root token.
func configureVault(ctx context.Context, root *vaultapi.Client) error {
	for _, do := range []func(context.Context, *vaultapi.Client) error{
		enableAudit, enableSecrets, enablePKI, enableKubernetesAuth, writePolicies, writeRoles,
	} {
		if err := do(ctx, root); err != nil {
			return err
		}
	}
	return nil
}

// enableAudit writes every request to the pod's log, secrets replaced by their HMAC.
func enableAudit(ctx context.Context, root *vaultapi.Client) error {
	found, err := root.Audited(ctx)
	if err != nil || found["stdout/"] {
		return err
	}
	return put(ctx, root, "sys/audit/stdout", map[string]any{"type": "file", "options": map[string]string{"file_path": "stdout"}})
}

func enableSecrets(ctx context.Context, root *vaultapi.Client) error {
	found, err := root.Mounted(ctx)
	if err != nil || found[kvMount+"/"] {
		return err
	}
	return put(ctx, root, "sys/mounts/"+kvMount, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
}

// enablePKI makes the trust anchor. The mount's longest lease bounds the
// anchor's own life, so it is raised to it first.
func enablePKI(ctx context.Context, root *vaultapi.Client) error {
	found, err := root.Mounted(ctx)
	if err != nil {
		return err
	}
	if !found[pkiMount+"/"] {
		config := map[string]string{"default_lease_ttl": issuerDuration, "max_lease_ttl": trustAnchorLife}
		if err := put(ctx, root, "sys/mounts/"+pkiMount, map[string]any{"type": "pki", "config": config}); err != nil {
			return err
		}
	}
	return put(ctx, root, pkiMount+"/root/generate/internal", map[string]any{
		"common_name":     trustAnchorName,
		"issuer_name":     "linkerd-trust-anchor",
		"key_type":        "ec",
		"key_bits":        256,
		"ttl":             trustAnchorLife,
		"max_path_length": 1, // issuers below it, and nothing that could make issuers
	})
}

// enableKubernetesAuth gives Vault neither a CA nor a reviewer's token: it uses
// its pod's own, and reads them again when they are renewed. A pinned token
// would die with the pod it was made for (failure mode V3).
func enableKubernetesAuth(ctx context.Context, root *vaultapi.Client) error {
	found, err := root.AuthMounted(ctx)
	if err != nil {
		return err
	}
	if !found[kubernetesAuth+"/"] {
		if err := put(ctx, root, "sys/auth/"+kubernetesAuth, map[string]any{"type": "kubernetes"}); err != nil {
			return err
		}
	}
	return put(ctx, root, "auth/"+kubernetesAuth+"/config", map[string]any{
		"kubernetes_host": "https://kubernetes.default.svc:443",
	})
}

func writePolicies(ctx context.Context, root *vaultapi.Client) error {
	for name, text := range vaultPolicies() {
		if err := put(ctx, root, "sys/policies/acl/"+name, map[string]any{"policy": text}); err != nil {
			return err
		}
	}
	return nil
}

func writeRoles(ctx context.Context, root *vaultapi.Client) error {
	for name, role := range vaultRoles() {
		if err := put(ctx, root, "auth/"+kubernetesAuth+"/role/"+name, role); err != nil {
			return err
		}
	}
	return nil
}

func put(ctx context.Context, c *vaultapi.Client, path string, in any) error {
	return c.Do(ctx, http.MethodPost, path, in, nil)
}

// vaultConfigured reads the mark; no account is no mark.
func vaultConfigured(ctx context.Context, env *Env) (bool, error) {
	account, err := env.Kube.Clientset.CoreV1().ServiceAccounts(NamespaceVault).Get(ctx, setupAccount, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read service account %s: %w", setupAccount, err)
	}
	return account.Annotations[configuredMark] == "true", nil
}

func markConfigured(ctx context.Context, env *Env) error {
	text, err := manifest("vault-setup.yaml", map[string]any{
		"Name": setupAccount, "Namespace": NamespaceVault, "Mark": configuredMark,
	})
	if err != nil {
		return err
	}
	if err := env.Kube.Apply(ctx, text, ""); err != nil {
		return fmt.Errorf("note that Vault is set up: %w", err)
	}
	return nil
}

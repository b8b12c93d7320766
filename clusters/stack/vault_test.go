package stack

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// noSecrets checks that nothing of a test Vault's secrets was said or stored.
func noSecrets(t *testing.T, b *bench, err error) {
	t.Helper()
	said := b.said.String() + b.cluster.text()
	if err != nil {
		said += err.Error()
	}
	for _, secret := range []string{testRootToken, testSetupToken, testRecovery} {
		require.NotContains(t, said, secret)
	}
}

func TestVaultIsSetUpOnceAndItsRootTokenEndsWithTheSetup(t *testing.T) {
	b := newBench(t)
	require.NoError(t, vault{}.Install(t.Context(), b.Env))

	require.Equal(t, 1, b.vault.count("PUT sys/init"))
	require.True(t, b.vault.revoked[testRootToken], "the root token is revoked")
	require.Equal(t, "auth/token/revoke-self", strings.TrimPrefix(b.vault.calls[len(b.vault.calls)-1], "POST "))
	require.Equal(t, map[string]any{"version": "2"}, b.vault.body("sys/mounts/secret")["options"])
	require.Equal(t, map[string]any{"default_lease_ttl": "2160h", "max_lease_ttl": "87600h"}, b.vault.body("sys/mounts/pki")["config"])
	root := b.vault.body("pki/root/generate/internal")
	require.Equal(t, "root.linkerd.cluster.local", root["common_name"])
	require.Equal(t, "ec", root["key_type"])
	require.Equal(t, 256.0, root["key_bits"])
	require.Equal(t, "87600h", root["ttl"])
	require.Equal(t, map[string]any{"file_path": "stdout"}, b.vault.body("sys/audit/stdout")["options"])
	require.Equal(t, map[string]any{"kubernetes_host": "https://kubernetes.default.svc:443"}, b.vault.body("auth/kubernetes/config"),
		"no reviewer's token is pinned")
	require.Equal(t, "true", b.cluster.get("/api/v1/namespaces/vault/serviceaccounts/meshsim-setup")["metadata"].(object)["annotations"].(object)[configuredMark])
	require.Equal(t, []string{"put vault/vault"}, b.releases.calls)
	noSecrets(t, b, nil)

	// Again: nothing is initialised or configured a second time.
	before := len(b.vault.calls)
	require.NoError(t, vault{}.Install(t.Context(), b.Env))
	require.Equal(t, []string{"POST auth/kubernetes/login", "POST auth/token/revoke-self"}, b.vault.calls[before:])
	require.Equal(t, 1, b.vault.count("PUT sys/init"))
	noSecrets(t, b, nil)
}

func TestVaultThatRefusesTheSetupLosesTheRootTokenAllTheSame(t *testing.T) {
	b := newBench(t)
	b.vault.refuse = "sys/mounts/secret"
	err := vault{}.Install(t.Context(), b.Env)
	require.EqualError(t, err, "set up Vault: vault POST sys/mounts/secret: 500: storage is full")
	require.True(t, b.vault.revoked[testRootToken])
	require.Nil(t, b.cluster.get("/api/v1/namespaces/vault/serviceaccounts/meshsim-setup"))
	noSecrets(t, b, err)
}

func TestVaultLeftHalfSetUpIsTakenAwayAndBegunAnew(t *testing.T) {
	b := newBench(t)
	b.vault.refuse = "sys/mounts/secret"
	require.Error(t, vault{}.Install(t.Context(), b.Env))
	b.vault.refuse = ""
	claim := "/api/v1/namespaces/vault/persistentvolumeclaims/data-vault-0"
	b.cluster.put(claim, object{"kind": "PersistentVolumeClaim"})
	b.releases.onDrop = func(string) { b.vault.wipe() }
	// Removing takes the TLS Secret too; cert-manager makes another.
	b.cluster.stored = func(path string, o object) {
		b.cluster.ready(path, o)
		if strings.HasSuffix(path, "/certificates/vault-tls") {
			b.cluster.objects["/api/v1/namespaces/vault/secrets/"+vaultTLSSecret] = b.vault.secret()
		}
	}
	require.NoError(t, vault{}.Install(t.Context(), b.Env))
	require.Equal(t, 2, b.vault.count("PUT sys/init"))
	require.Nil(t, b.cluster.get(claim), "the volume of the broken one is gone")
	require.Contains(t, b.said.String(), "half set up")
	noSecrets(t, b, nil)
}

func TestVaultIsReadyWhenItLetsMeshsimIn(t *testing.T) {
	b := newBench(t)
	b.cluster.put(workloadReady("StatefulSet", NamespaceVault, "vault"))
	b.Env.patience = 2 * time.Second
	err := reported{Component: vault{}}.Ready(t.Context(), b.Env)
	require.ErrorContains(t, err, "log in to Vault")
	require.ErrorContains(t, err, "403: permission denied")
	b.Env.patience = 10 * time.Second
	require.NoError(t, vault{}.Install(t.Context(), b.Env))
	require.NoError(t, vault{}.Ready(t.Context(), b.Env))
	require.True(t, b.vault.revoked[testSetupToken], "the token is given back")
}

func TestVaultOfAnotherCAIsNotSpokenTo(t *testing.T) {
	b := newBench(t)
	b.cluster.put("/api/v1/namespaces/vault/secrets/"+vaultTLSSecret, newFakeVault(t).secret())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := TrustAnchor(ctx, b.Env)
	require.ErrorContains(t, err, "certificate signed by unknown authority")
}

func TestRemovingVaultLeavesItsNamespaceClean(t *testing.T) {
	b := newBench(t)
	require.NoError(t, vault{}.Install(t.Context(), b.Env))
	b.cluster.put("/api/v1/namespaces/vault/persistentvolumeclaims/data-vault-0", object{"kind": "PersistentVolumeClaim"})
	b.cluster.put("/api/v1/namespaces/vault/secrets/vault-ca", object{"kind": "Secret"})
	for range 2 { // removing is idempotent
		require.NoError(t, vault{}.Remove(t.Context(), b.Env))
		require.Equal(t, []string{"/api/v1/namespaces/vault"}, b.cluster.paths())
	}
}

func TestVaultsConfigurationSealsByKMSAndStoresByRaft(t *testing.T) {
	text, err := vaultConfig("/etc/vault/tls", "/var/lib/vault", "http://test-aws:4566")
	require.NoError(t, err)
	for _, want := range []string{
		`seal "awskms" {`, `region     = "us-east-1"`, `kms_key_id = "alias/vault-unseal"`, `endpoint   = "http://test-aws:4566"`,
		`storage "raft" {`, `path                   = "/var/lib/vault"`, `tls_cert_file   = "/etc/vault/tls/tls.crt"`, `tls_min_version = "tls12"`,
	} {
		require.Contains(t, text, want)
	}
	text, err = vaultConfig("/t", "/d", "")
	require.NoError(t, err)
	require.NotContains(t, text, "endpoint", "AWS itself needs none")
	require.Empty(t, kmsCredentials(""), "and its credentials are the pod's own")
}

func TestPoliciesGiveEachOnlyWhatItNeeds(t *testing.T) {
	p := vaultPolicies()
	require.Len(t, p, 11)
	require.Equal(t, "path \"pki/root/sign-intermediate\" {\n  capabilities = [\"create\", \"update\"]\n}\n", p["cert-manager"])
	require.Equal(t, "path \"secret/data/prod-app/payment-gateway\" {\n  capabilities = [\"read\"]\n}\n", p["prod-app-payment-gateway"])
	require.Equal(t, `path "secret/data/prod-app/*" {
  capabilities = ["create", "update"]
}
path "secret/metadata/prod-app/*" {
  capabilities = ["read", "list", "delete"]
}
`, p["meshsim-setup"])
	rotator := p["prod-app-secret-rotator"]
	require.NotContains(t, rotator, "*", "it has each secret by name")
	require.Equal(t, 2*9, strings.Count(rotator, "path "))
	require.Contains(t, rotator, "path \"secret/data/prod-app/order-processing\" {\n  capabilities = [\"read\", \"create\", \"update\"]\n}\n"+
		"path \"secret/metadata/prod-app/order-processing\" {\n  capabilities = [\"create\", \"update\"]\n}\n")
	for name, text := range p {
		require.NotContains(t, text, "sudo", name)
		require.NotContains(t, text, "sys/", name)
	}
}

func TestRolesAreBoundToOneAccountEach(t *testing.T) {
	roles := vaultRoles()
	require.Len(t, roles, 11)
	for name, role := range roles {
		require.Len(t, role["bound_service_account_names"], 1, name)
		require.NotContains(t, role["bound_service_account_names"], "*", name)
		require.Len(t, role["bound_service_account_namespaces"], 1, name)
		require.Len(t, role["token_policies"], 1, name)
	}
	require.Equal(t, map[string]any{
		"bound_service_account_namespaces": []string{"prod-app"}, "bound_service_account_names": []string{"order-processing"},
		"token_policies": []string{"prod-app-order-processing"}, "token_ttl": "1h", "token_max_ttl": "1h", "audience": "vault",
	}, roles["order-processing"])
	require.Equal(t, map[string]any{
		"bound_service_account_namespaces": []string{"prod-app"}, "bound_service_account_names": []string{"secret-rotator"},
		"token_policies": []string{"prod-app-secret-rotator"}, "token_ttl": "5m", "token_max_ttl": "5m", "audience": "vault",
	}, roles["secret-rotator"])
	require.Equal(t, "batch", roles["cert-manager"]["token_type"], "a login for each certificate leaves no lease")
	require.NotContains(t, roles["cert-manager"], "audience", "the token of a Secret has none")
	require.Equal(t, "10m0s", roles["meshsim-setup"]["token_ttl"])
}

func TestPaymentServiceIsOneOfTheShops(t *testing.T) {
	require.Contains(t, shopchart.Services(), paymentService)
}

package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"text/template"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// vault is one Vault server: raft on a gp3 volume, TLS, unsealed by AWS KMS.
type vault struct{}

func (vault) Name() string { return "vault" }

const (
	vaultRelease    = "vault"
	vaultPod        = "vault-0"
	vaultClaim      = "data-vault-0"
	vaultPort       = 8200
	vaultServerName = "vault." + NamespaceVault + ".svc"
	vaultAddress    = "https://" + vaultServerName + ":8200"
	vaultTLSSecret  = "vault-tls"
	vaultCASecret   = "vault-ca"

	kmsRegion = "us-east-1"
	kmsKey    = "alias/vault-unseal"
)

// Install makes Vault's TLS certificate, starts the server and, the first time,
// initialises it and sets it up. An install that was broken off between the two
// left a Vault that nobody has a token of; its data is worth nothing, so it is
// taken away and begun again.
func (v vault) Install(ctx context.Context, env *Env) error {
	err := v.install(ctx, env)
	if !errors.Is(err, errHalfSetUp) {
		return err
	}
	env.logger().Warn("Vault was left half set up by a broken-off install; its volume is removed and it begins anew")
	if err := v.Remove(ctx, env); err != nil {
		return err
	}
	return v.install(ctx, env)
}

func (v vault) install(ctx context.Context, env *Env) error {
	if err := ensureNamespace(ctx, env, NamespaceVault); err != nil {
		return err
	}
	certificates, err := vaultCertificates()
	if err != nil {
		return err
	}
	if err := env.Kube.Apply(ctx, certificates, ""); err != nil {
		return err
	}
	if err := waitCondition(ctx, env, certificatesAPI, NamespaceVault, "vault-tls", "Ready"); err != nil {
		return err
	}
	r, err := v.release(env)
	if err != nil {
		return err
	}
	if err := env.helm().Put(ctx, env, r); err != nil {
		return err
	}
	return setUpVault(ctx, env)
}

func vaultCertificates() ([]byte, error) {
	return manifest("vault-tls.yaml", map[string]any{"Namespace": NamespaceVault, "ServerName": vaultServerName})
}

// release is HashiCorp's chart where the bundle has it, else our own with the
// same names.
func (v vault) release(env *Env) (release, error) {
	image, err := imageValues(env, "vault")
	if err != nil {
		return release{}, err
	}
	r := release{Name: vaultRelease, Namespace: NamespaceVault}
	var values map[string]any
	if c, chartErr := chartFromBundle(env, "vault"); chartErr == nil {
		r.Chart = c
		values, err = officialVaultValues(env, image)
	} else if r.Chart, err = ownChart("vault"); err == nil {
		values, err = ownVaultValues(env, image)
	}
	if err != nil {
		return release{}, err
	}
	r.Values = withOverrides(env, v.Name(), values)
	return r, nil
}

func vaultResources(env *Env) map[string]any { return resources(env.Fit, 250, 256, 1024) }

func ownVaultValues(env *Env, image map[string]any) (map[string]any, error) {
	config, err := vaultConfig("/etc/vault/tls", "/var/lib/vault", env.KMSEndpoint)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"image":     image,
		"resources": vaultResources(env),
		"config":    config,
		"tlsSecret": vaultTLSSecret,
		"env":       kmsCredentials(env.KMSEndpoint),
	}, nil
}

func officialVaultValues(env *Env, image map[string]any) (map[string]any, error) {
	const tls = "/vault/userconfig/vault-tls"
	config, err := vaultConfig(tls, "/vault/data", env.KMSEndpoint)
	if err != nil {
		return nil, err
	}
	variables := map[string]any{"SKIP_SETCAP": "true"}
	for name, value := range kmsCredentials(env.KMSEndpoint) {
		variables[name] = value
	}
	server := map[string]any{
		"image":                map[string]any{"repository": image["repository"], "tag": image["tag"], "pullPolicy": image["pullPolicy"]},
		"resources":            vaultResources(env),
		"affinity":             "",
		"annotations":          map[string]any{"linkerd.io/inject": "disabled"},
		"extraEnvironmentVars": variables,
		"volumes":              []any{map[string]any{"name": "tls", "secret": map[string]any{"secretName": vaultTLSSecret}}},
		"volumeMounts":         []any{map[string]any{"name": "tls", "mountPath": tls, "readOnly": true}},
		"readinessProbe":       map[string]any{"enabled": true, "path": "/v1/sys/health?standbyok=true", "periodSeconds": 2},
		"dataStorage":          map[string]any{"enabled": true, "size": "10Gi", "storageClass": "gp3"},
		"updateStrategyType":   "RollingUpdate",
		"standalone":           map[string]any{"enabled": false},
		"ha": map[string]any{
			"enabled": true, "replicas": 1,
			"disruptionBudget": map[string]any{"enabled": false},
			"raft":             map[string]any{"enabled": true, "setNodeId": true, "config": config},
		},
	}
	return map[string]any{
		"global":   map[string]any{"tlsDisable": false},
		"injector": map[string]any{"enabled": false},
		"csi":      map[string]any{"enabled": false},
		"ui":       map[string]any{"enabled": false},
		"server":   server,
	}, nil
}

// kmsCredentials satisfy the AWS SDK, which signs no request without some. They
// are no secret: the stand-in for KMS accepts any, and against AWS itself the
// pod gets real ones through its service account (IRSA), so none are given.
func kmsCredentials(endpoint string) map[string]any {
	if endpoint == "" {
		return map[string]any{}
	}
	return map[string]any{"AWS_ACCESS_KEY_ID": "meshsim-stand-in", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
}

var vaultConfigText = template.Must(template.New("vault.hcl").Parse(`ui            = false
disable_mlock = true
log_level     = "info"

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "{{ .TLS }}/tls.crt"
  tls_key_file    = "{{ .TLS }}/tls.key"
  tls_min_version = "tls12"
}

# One member elects itself; the default patience is for many across a network.
storage "raft" {
  path                   = "{{ .Data }}"
  performance_multiplier = 1
}

seal "awskms" {
  region     = "{{ .Region }}"
  kms_key_id = "{{ .Key }}"
{{- if .Endpoint }}
  endpoint   = "{{ .Endpoint }}"
{{- end }}
}
`))

// vaultConfig is the server's configuration: the folders of its certificate and
// of its data, and where KMS is ("": AWS itself).
func vaultConfig(tls, data, endpoint string) (string, error) {
	var out bytes.Buffer
	err := vaultConfigText.Execute(&out, map[string]string{
		"TLS": tls, "Data": data, "Region": kmsRegion, "Key": kmsKey, "Endpoint": endpoint,
	})
	if err != nil {
		return "", fmt.Errorf("write Vault's configuration: %w", err)
	}
	return out.String(), nil
}

// Ready waits until Vault serves and lets meshsim in.
func (vault) Ready(ctx context.Context, env *Env) error {
	if err := env.Kube.WaitRollout(ctx, "statefulset", NamespaceVault, vaultRelease); err != nil {
		return err
	}
	return until(ctx, "log in to Vault", time.Second, func(ctx context.Context) error {
		client, err := enterVault(ctx, env)
		if err != nil {
			return err
		}
		return client.Leave(ctx)
	})
}

// Remove takes Vault away with its volume: what is on it can be read by this
// Vault alone.
func (vault) Remove(ctx context.Context, env *Env) error {
	if err := env.helm().Drop(ctx, env, vaultRelease, NamespaceVault); err != nil {
		return err
	}
	core := env.Kube.Clientset.CoreV1()
	if err := ignoreNotFound(core.PersistentVolumeClaims(NamespaceVault).Delete(ctx, vaultClaim, metav1.DeleteOptions{})); err != nil {
		return fmt.Errorf("delete Vault's volume claim: %w", err)
	}
	certificates, err := vaultCertificates()
	if err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, certificates, ""); err != nil {
		return err
	}
	if err := deleteSecrets(ctx, env, NamespaceVault, vaultTLSSecret, vaultCASecret); err != nil {
		return err
	}
	err = ignoreNotFound(core.ServiceAccounts(NamespaceVault).Delete(ctx, setupAccount, metav1.DeleteOptions{}))
	if err != nil {
		return fmt.Errorf("delete service account %s: %w", setupAccount, err)
	}
	err = env.Kube.WaitGone(ctx, "pod "+vaultPod, func(ctx context.Context) error {
		_, err := core.Pods(NamespaceVault).Get(ctx, vaultPod, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return env.Kube.WaitGone(ctx, "volume claim "+vaultClaim, func(ctx context.Context) error {
		_, err := core.PersistentVolumeClaims(NamespaceVault).Get(ctx, vaultClaim, metav1.GetOptions{})
		return err
	})
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func deleteSecrets(ctx context.Context, env *Env, namespace string, names ...string) error {
	for _, name := range names {
		err := env.Kube.Clientset.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if ignoreNotFound(err) != nil {
			return fmt.Errorf("delete secret %s/%s: %w", namespace, name, err)
		}
	}
	return nil
}

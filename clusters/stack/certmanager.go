package stack

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// certManager issues and renews certificates.
type certManager struct{}

func (certManager) Name() string { return "cert-manager" }

const (
	certManagerRelease = "cert-manager"
	certManagerWebhook = "cert-manager-webhook" // also the name of its webhook configurations
	cainjector         = "cert-manager-cainjector"
)

var (
	certificatesAPI   = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}
	clusterIssuersAPI = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "clusterissuers"}
)

func (m certManager) Install(ctx context.Context, env *Env) error {
	if err := ensureNamespace(ctx, env, NamespaceCertManager); err != nil {
		return err
	}
	c, err := chartFromBundle(env, "cert-manager")
	if err != nil {
		return err
	}
	values, err := certManagerValues(env)
	if err != nil {
		return err
	}
	return env.helm().Put(ctx, env, release{
		Name: certManagerRelease, Namespace: NamespaceCertManager, Chart: c, Values: withOverrides(env, m.Name(), values),
	})
}

func certManagerValues(env *Env) (map[string]any, error) {
	part := func(image string, cpu, memory, limit int) (map[string]any, error) {
		img, err := imageValues(env, image)
		if err != nil {
			return nil, err
		}
		// The namespace is restricted, and an image alone may not say its user by number.
		user := map[string]any{"runAsUser": 1000, "runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}}
		return map[string]any{"image": img, "resources": resources(env.Fit, cpu, memory, limit), "securityContext": user}, nil
	}
	values, err := part("cert-manager-controller", 50, 64, 256)
	if err != nil {
		return nil, err
	}
	webhook, err := part("cert-manager-webhook", 20, 32, 128)
	if err != nil {
		return nil, err
	}
	webhook["readinessProbe"] = map[string]any{"initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3}
	webhook["livenessProbe"] = map[string]any{"timeoutSeconds": 5}
	injector, err := part("cert-manager-cainjector", 20, 64, 256)
	if err != nil {
		return nil, err
	}
	values["installCRDs"] = true
	values["webhook"], values["cainjector"] = webhook, injector
	// Ready makes the same check, and without an image of its own.
	values["startupapicheck"] = map[string]any{"enabled": false}
	values["prometheus"] = map[string]any{"enabled": false}
	values["global"] = map[string]any{
		"leaderElection": map[string]any{
			// Leases in cert-manager's own namespace go when it goes; short ones
			// let a new pod take over at once from one that was killed.
			"namespace":     NamespaceCertManager,
			"leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s",
		},
		// Who may edit the shop must not be able to ask for a Certificate there: a
		// ClusterIssuer serves every namespace, and this one signs the mesh's CAs.
		"rbac": map[string]any{"aggregateClusterRoles": false},
	}
	return values, nil
}

// probeIssuer is sent to find out whether the webhook is asked and answers.
func probeIssuer() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Issuer",
		"metadata": map[string]any{"name": "meshsim-probe", "namespace": NamespaceCertManager},
		"spec":     map[string]any{"selfSigned": map[string]any{}},
	}}
}

// Ready waits for more than pods: until cainjector has given the API server
// the webhook's CA, every Issuer is refused (failure mode C1).
func (certManager) Ready(ctx context.Context, env *Env) error {
	for _, name := range []string{certManagerRelease, certManagerWebhook, cainjector} {
		if err := env.Kube.WaitRollout(ctx, "deployment", NamespaceCertManager, name); err != nil {
			return err
		}
	}
	err := until(ctx, "wait for cainjector", 500*time.Millisecond, func(ctx context.Context) error { return injected(ctx, env) })
	if err != nil {
		return err
	}
	return until(ctx, "wait for cert-manager's webhook", 500*time.Millisecond, func(ctx context.Context) error {
		_, err := env.Kube.DryRun(ctx, probeIssuer(), NamespaceCertManager)
		return err
	})
}

// injected says which webhook has no CA yet.
func injected(ctx context.Context, env *Env) error {
	admission := env.Kube.Clientset.AdmissionregistrationV1()
	validating, err := admission.ValidatingWebhookConfigurations().Get(ctx, certManagerWebhook, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, w := range validating.Webhooks {
		if len(w.ClientConfig.CABundle) == 0 {
			return fmt.Errorf("validating webhook %s has no CA yet", w.Name)
		}
	}
	mutating, err := admission.MutatingWebhookConfigurations().Get(ctx, certManagerWebhook, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, w := range mutating.Webhooks {
		if len(w.ClientConfig.CABundle) == 0 {
			return fmt.Errorf("mutating webhook %s has no CA yet", w.Name)
		}
	}
	return nil
}

// Remove takes the CRDs too, and with them every certificate and issuer. The
// webhook's own CA and the leases are no part of the chart: cert-manager made them.
func (certManager) Remove(ctx context.Context, env *Env) error {
	if err := env.helm().Drop(ctx, env, certManagerRelease, NamespaceCertManager); err != nil {
		return err
	}
	if err := deleteSecrets(ctx, env, NamespaceCertManager, "cert-manager-webhook-ca"); err != nil {
		return err
	}
	leases := env.Kube.Clientset.CoordinationV1().Leases(NamespaceCertManager)
	for _, name := range []string{"cert-manager-controller", "cert-manager-cainjector-leader-election", "cert-manager-cainjector-leader-election-core"} {
		if err := ignoreNotFound(leases.Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("delete lease %s: %w", name, err)
		}
	}
	return waitCRDsGone(ctx, env, "certificates.cert-manager.io", "issuers.cert-manager.io", "clusterissuers.cert-manager.io")
}

var crdsAPI = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// waitCRDsGone waits until the API server has forgotten the kinds, so that
// installing them anew does not meet their end.
func waitCRDsGone(ctx context.Context, env *Env, names ...string) error {
	for _, name := range names {
		err := env.Kube.WaitGone(ctx, "CRD "+name, func(ctx context.Context) error {
			_, err := env.Kube.Dynamic.Resource(crdsAPI).Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// waitCondition waits until a condition of a custom resource is true.
func waitCondition(ctx context.Context, env *Env, api schema.GroupVersionResource, namespace, name, condition string) error {
	return until(ctx, fmt.Sprintf("wait for %s %s/%s", api.Resource, namespace, name), 500*time.Millisecond, func(ctx context.Context) error {
		u, err := env.Kube.Dynamic.Resource(api).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return conditionTrue(u, condition)
	})
}

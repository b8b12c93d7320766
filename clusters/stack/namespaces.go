package stack

import (
	"context"
	"fmt"
	"strings"
)

// namespaceLabels are what the namespaces of a rehearsal carry.
//
// Pod Security: linkerd-init sets up redirection with NET_ADMIN and NET_RAW,
// which baseline forbids, so where proxies are injected only privileged lets
// pods start (failure mode R8); auditing against baseline keeps a trace of
// anything else that steps over it. Elsewhere nothing needs a privilege.
//
// Vault and cert-manager stay outside the mesh: an injector that fails closed
// would otherwise keep Vault's pod away, and Vault is what renews the
// injector's certificates (failure mode V7).
func namespaceLabels(name string) map[string]string {
	labels := map[string]string{"app.kubernetes.io/managed-by": "meshsim"}
	security := func(enforce, audit string) {
		labels["pod-security.kubernetes.io/enforce"] = enforce
		labels["pod-security.kubernetes.io/audit"] = audit
	}
	switch name {
	case NamespaceShop:
		security("privileged", "baseline")
	case NamespaceMesh:
		security("privileged", "baseline") // and the mesh's own labels, while it is there
	case NamespaceCertManager:
		security("restricted", "restricted")
		labels[admissionLabel] = "disabled"
	case NamespaceVault:
		security("baseline", "restricted")
		labels[admissionLabel] = "disabled"
	case NamespaceMonitoring:
		security("restricted", "restricted")
	}
	return labels
}

// admissionLabel is what the mesh's webhooks leave a namespace alone by.
const admissionLabel = "config.linkerd.io/admission-webhooks"

// managedNamespaces are the namespaces that meshsim makes.
func managedNamespaces() []string {
	return []string{NamespaceMesh, NamespaceCertManager, NamespaceVault, NamespaceShop, NamespaceMonitoring}
}

func ensureNamespace(ctx context.Context, env *Env, name string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n", name)
	for key, value := range namespaceLabels(name) {
		fmt.Fprintf(&b, "    %s: %q\n", key, value)
	}
	if err := env.Kube.Apply(ctx, []byte(b.String()), ""); err != nil {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	return nil
}

package stack

import (
	"fmt"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// How long Vault's tokens live. cert-manager logs in for each certificate and
// never logs out, so its tokens are short and of the kind that leaves no lease
// behind (failure mode C9).
const (
	issuerTokenLife  = "60s"
	serviceTokenLife = "1h"
)

// vaultPolicies are the access rules, by name.
func vaultPolicies() map[string]string {
	policies := map[string]string{
		// A role's sign path would answer with a certificate that is no CA
		// (failure mode C6); this one signs intermediates and nothing else.
		issuerRole: `path "` + pkiMount + `/root/sign-intermediate" {
  capabilities = ["create", "update"]
}
`,
		// meshsim may put the shop's secrets in and take them out again. It
		// cannot read them, nor change policies or roles.
		setupRole: `path "` + kvMount + `/data/` + NamespaceShop + `/*" {
  capabilities = ["create", "update"]
}
path "` + kvMount + `/metadata/` + NamespaceShop + `/*" {
  capabilities = ["read", "list", "delete"]
}
`,
	}
	for _, service := range shopchart.Services() {
		policies[servicePolicy(service)] = fmt.Sprintf("path %q {\n  capabilities = [\"read\"]\n}\n",
			kvMount+"/data/"+secretPath(service))
	}
	return policies
}

func servicePolicy(service string) string { return NamespaceShop + "-" + service }

// secretPath is where a service's secrets are, below the kv mount.
func secretPath(service string) string { return NamespaceShop + "/" + service }

// vaultRoles are the roles of Kubernetes auth, by name: who may log in and
// which policy they get.
func vaultRoles() map[string]map[string]any {
	role := func(namespace, account, policy, life string) map[string]any {
		return map[string]any{
			"bound_service_account_namespaces": []string{namespace},
			"bound_service_account_names":      []string{account},
			"token_policies":                   []string{policy},
			"token_ttl":                        life,
			"token_max_ttl":                    life,
		}
	}
	// The account's token comes from a Secret: such tokens have no audience.
	certManager := role(NamespaceCertManager, issuerAccount, issuerRole, issuerTokenLife)
	certManager["token_type"] = "batch"
	setup := role(NamespaceVault, setupAccount, setupRole, setupTokenLife.String())
	setup["audience"] = vaultAudience
	roles := map[string]map[string]any{issuerRole: certManager, setupRole: setup}
	for _, service := range shopchart.Services() {
		r := role(NamespaceShop, service, servicePolicy(service), serviceTokenLife)
		r["audience"] = vaultAudience
		roles[service] = r
	}
	return roles
}

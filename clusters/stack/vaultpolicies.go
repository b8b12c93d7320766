package stack

import (
	"fmt"
	"strings"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// How long Vault's tokens live. cert-manager logs in for each certificate and
// never logs out, so its tokens are short and of the kind that leaves no lease
// behind (failure mode C9).
const (
	issuerTokenLife  = "60s"
	serviceTokenLife = "1h"
	rotatorTokenLife = "5m" // it logs in for each call
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
	policies[servicePolicy(shopchart.Rotator)] = rotatorPolicy()
	return policies
}

// rotatorPolicy lets the rotator renew what each service reads, and its own: those
// secrets by name, and no other. It must read them to know which login is in
// force, and to leave be what it does not renew.
func rotatorPolicy() string {
	var text strings.Builder
	for _, name := range keepers() {
		fmt.Fprintf(&text, "path %q {\n  capabilities = [\"read\", \"create\", \"update\"]\n}\n", kvMount+"/data/"+secretPath(name))
		fmt.Fprintf(&text, "path %q {\n  capabilities = [\"create\", \"update\"]\n}\n", kvMount+"/metadata/"+secretPath(name))
	}
	return text.String()
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
	for _, name := range keepers() {
		life := serviceTokenLife
		if name == shopchart.Rotator {
			life = rotatorTokenLife
		}
		r := role(NamespaceShop, name, servicePolicy(name), life)
		r["audience"] = vaultAudience
		roles[name] = r
	}
	return roles
}

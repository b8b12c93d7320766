//go:build conformance

package mesh

import "fmt"

// serverYAML is a Server for a port of the pods of an app; port is a number or
// a container port's name.
func serverYAML(name, app string, port any, protocol string) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1beta1
kind: Server
metadata: {name: %s}
spec:
  podSelector: {matchLabels: {app: %s}}
  port: %v
  proxyProtocol: %s
`, name, app, port, protocol)
}

// meshTLSYAML authenticates identities: a full name, or "*" for everyone who
// has one.
func meshTLSYAML(name, identity string) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: %s}
spec: {identities: [%q]}
`, name, identity)
}

func networkYAML(name, cidr string) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: %s}
spec:
  networks: [{cidr: %s}]
`, name, cidr)
}

// policyYAML lets in whoever passes all of the references, which come as kind
// and name by turns. The target is a Server, an HTTPRoute or a Namespace.
func policyYAML(name, targetKind, target string, references ...string) string {
	group := "policy.linkerd.io"
	if targetKind == "Namespace" {
		group = "core"
	}
	text := fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %s}
spec:
  targetRef: {group: %s, kind: %s, name: %s}
  requiredAuthenticationRefs:
`, name, group, targetKind, target)
	for i := 0; i+1 < len(references); i += 2 {
		text += fmt.Sprintf("  - {group: policy.linkerd.io, kind: %s, name: %s}\n", references[i], references[i+1])
	}
	return text
}

// routeYAML attaches a route for a path and all below it to a Server.
func routeYAML(name, server, path string) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: %s}]
  rules:
  - matches:
    - path: {type: PathPrefix, value: %s}
`, name, server, path)
}

// Package meshid makes and reads the names that workloads have in the mesh:
// <service account>.<namespace>.serviceaccount.identity.linkerd.<trust domain>.
package meshid

import (
	"fmt"
	"strings"
)

const (
	infix = "serviceaccount.identity.linkerd"
	// ControlPlaneNamespace is where the mesh itself runs.
	ControlPlaneNamespace = "linkerd"
)

// ID is a workload's service account.
type ID struct {
	ServiceAccount string
	Namespace      string
}

// Name is the identity of id under a trust domain, as it stands in certificates.
func (id ID) Name(trustDomain string) string {
	return id.ServiceAccount + "." + id.Namespace + "." + infix + "." + trustDomain
}

// Parse takes a name of the trust domain apart.
func Parse(name, trustDomain string) (ID, error) {
	rest, ok := strings.CutSuffix(name, "."+infix+"."+trustDomain)
	if !ok {
		return ID{}, fmt.Errorf("identity %q is not of trust domain %q", name, trustDomain)
	}
	sa, ns, ok := cutLast(rest)
	if !ok || sa == "" || ns == "" {
		return ID{}, fmt.Errorf("identity %q names no service account and namespace", name)
	}
	return ID{ServiceAccount: sa, Namespace: ns}, nil
}

// A service account's name may hold dots, a namespace's may not.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// FromUsername reads the name that Kubernetes gives a service account,
// system:serviceaccount:<namespace>:<name>.
func FromUsername(user string) (ID, error) {
	parts := strings.Split(user, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return ID{}, fmt.Errorf("user %q is no service account", user)
	}
	return ID{ServiceAccount: parts[3], Namespace: parts[2]}, nil
}

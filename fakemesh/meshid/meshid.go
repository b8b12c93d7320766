// Package meshid makes and reads the names that workloads have in the mesh:
// <service account>.<namespace>.serviceaccount.identity.<mesh's namespace>.<trust domain>.
package meshid

import (
	"fmt"
	"strings"
)

// ControlPlaneNamespace is where the mesh itself runs when nothing else is said.
const ControlPlaneNamespace = "linkerd"

// Mesh is what all names of one mesh have in common.
type Mesh struct {
	Namespace   string // of the control plane
	TrustDomain string
}

func (m Mesh) suffix() string {
	return ".serviceaccount.identity." + m.Namespace + "." + m.TrustDomain
}

// ID is a workload's service account.
type ID struct {
	ServiceAccount string
	Namespace      string
}

// Name is the identity of id in a mesh, as it stands in certificates.
func (id ID) Name(m Mesh) string {
	return id.ServiceAccount + "." + id.Namespace + m.suffix()
}

// Parse takes a name of the mesh apart.
func Parse(name string, m Mesh) (ID, error) {
	rest, ok := strings.CutSuffix(name, m.suffix())
	if !ok {
		return ID{}, fmt.Errorf("identity %q is not of trust domain %q and the mesh in namespace %q", name, m.TrustDomain, m.Namespace)
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

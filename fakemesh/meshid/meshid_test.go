package meshid

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var mesh = Mesh{Namespace: ControlPlaneNamespace, TrustDomain: "cluster.local"}

func TestNamesHaveLinkerdsForm(t *testing.T) {
	id := ID{ServiceAccount: "order-processing", Namespace: "prod-app"}
	require.Equal(t, "order-processing.prod-app.serviceaccount.identity.linkerd.cluster.local", id.Name(mesh))
	require.Equal(t, "order-processing.prod-app.serviceaccount.identity.sidecars.mesh.example", id.Name(Mesh{"sidecars", "mesh.example"}))
}

func TestNamesAreReadStrictly(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want ID
		err  string
	}{
		"a name":                         {"web.prod.serviceaccount.identity.linkerd.cluster.local", ID{"web", "prod"}, ""},
		"a service account with dots":    {"web.v1.prod.serviceaccount.identity.linkerd.cluster.local", ID{"web.v1", "prod"}, ""},
		"another trust domain":           {"web.prod.serviceaccount.identity.linkerd.evil.local", ID{}, "not of trust domain"},
		"a mesh in another namespace":    {"web.prod.serviceaccount.identity.mesh.cluster.local", ID{}, "the mesh in namespace \"linkerd\""},
		"no namespace":                   {"web.serviceaccount.identity.linkerd.cluster.local", ID{}, "names no service account"},
		"an empty service account":       {".prod.serviceaccount.identity.linkerd.cluster.local", ID{}, "names no service account"},
		"the domain within another name": {"web.prod.serviceaccount.identity.linkerd.cluster.local.evil.io", ID{}, "not of trust domain"},
		"nothing":                        {"", ID{}, "not of trust domain"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.in, mesh)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestUsernamesOfServiceAccountsAreRead(t *testing.T) {
	got, err := FromUsername("system:serviceaccount:prod:web")
	require.NoError(t, err)
	require.Equal(t, ID{"web", "prod"}, got)
	for _, bad := range []string{"", "admin", "system:node:worker", "system:serviceaccount:prod", "system:serviceaccount::web", "system:serviceaccount:prod:", "x:serviceaccount:prod:web", "system:serviceaccount:a:b:c"} {
		_, err := FromUsername(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("web.prod.serviceaccount.identity.linkerd.cluster.local")
	f.Add("..serviceaccount.identity.linkerd.cluster.local")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s, mesh)
		if err == nil && id.Name(mesh) != s {
			t.Fatalf("%q became %q", s, id.Name(mesh))
		}
	})
}

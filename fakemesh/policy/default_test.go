package policy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

func TestTheFiveDefaultPolicies(t *testing.T) {
	const id = "web.prod.serviceaccount.identity.linkerd.cluster.local"
	clients := []Client{
		{netip.MustParseAddr("10.1.2.3"), id},
		{netip.MustParseAddr("10.1.2.3"), ""},
		{netip.MustParseAddr("8.8.8.8"), id},
		{netip.MustParseAddr("8.8.8.8"), ""},
		{netip.MustParseAddr("127.0.0.1"), ""},
	}
	// In the order of clients: meshed in the cluster, unmeshed in it, meshed
	// outside, unmeshed outside, the pod itself.
	for policy, want := range map[Default][5]bool{
		AllUnauthenticated:     {true, true, true, true, true},
		AllAuthenticated:       {true, false, true, false, true},
		ClusterUnauthenticated: {true, true, false, false, true},
		ClusterAuthenticated:   {true, false, false, false, true},
		Deny:                   {false, false, false, false, true},
	} {
		t.Run(string(policy), func(t *testing.T) {
			in := compiled(t, Defaults{Policy: policy, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}.Rules())
			for i, c := range clients {
				d := in.Port(9090).Connection(c)
				require.Equal(t, want[i], d.Allowed, "%v", c)
				require.Equal(t, Ref{Kind: "default", Name: string(policy)}, d.Server)
				switch {
				case !want[i]:
					require.Zero(t, d.Authz)
				case i == 4 && policy != AllUnauthenticated:
					require.Equal(t, "localhost", d.Authz.Name)
				default:
					require.Equal(t, string(policy), d.Authz.Name)
				}
				r := httptest.NewRequest(http.MethodPost, "http://x/orders", nil)
				require.Equal(t, want[i], in.Port(9090).Request(c, r).Allowed, "%v", c)
			}
		})
	}
}

func compiled(t testing.TB, rules *meshapi.InboundRules) *Inbound {
	t.Helper()
	in, err := Compile(rules)
	require.NoError(t, err)
	return in
}

func TestProbesAreLetInWhateverThePolicy(t *testing.T) {
	in := compiled(t, Defaults{
		Policy: Deny, Probes: []Probe{{8081, "/healthz"}, {8081, "/readyz?full=1"}, {8082, "/"}},
		ProbeNetworks: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")},
	}.Rules())
	for name, tc := range map[string]struct {
		from, method, target string
		port                 uint16
		want                 bool
	}{
		"a liveness probe":                  {"172.18.0.2", "GET", "/healthz", 8081, true},
		"a readiness probe with its query":  {"172.18.0.2", "GET", "/readyz?full=1", 8081, true},
		"a probe of the root":               {"172.18.0.2", "GET", "/", 8082, true},
		"from another network":              {"10.1.2.3", "GET", "/healthz", 8081, false},
		"the path on another port":          {"172.18.0.2", "GET", "/healthz", 9090, false},
		"another path":                      {"172.18.0.2", "GET", "/orders", 8081, false},
		"a path below":                      {"172.18.0.2", "GET", "/healthz/x", 8081, false},
		"another spelling of the path":      {"172.18.0.2", "GET", "/%68ealthz", 8081, false},
		"a write to the path":               {"172.18.0.2", "POST", "/healthz", 8081, false},
		"the path hidden in a longer query": {"172.18.0.2", "GET", "/orders?/healthz", 8081, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.target, nil)
			d := in.Port(tc.port).Request(Client{Addr: netip.MustParseAddr(tc.from)}, r)
			require.Equal(t, tc.want, d.Allowed)
			require.False(t, d.NoRoute)
			if tc.want {
				require.Equal(t, "probe", d.Route.Name)
				require.Equal(t, "probe", d.Authz.Name)
			}
		})
	}
	require.False(t, in.Port(8081).Connection(Client{Addr: netip.MustParseAddr("172.18.0.2")}).Allowed)
}

func TestUnknownPoliciesAreRefusedWithTheKnown(t *testing.T) {
	_, err := ParseDefault("all")
	require.ErrorContains(t, err, `"all" is no default inbound policy: want one of all-unauthenticated, all-authenticated, cluster-authenticated, cluster-unauthenticated, deny`)
	d, err := ParseDefault("cluster-authenticated")
	require.NoError(t, err)
	require.Equal(t, ClusterAuthenticated, d)
}

func TestProbesAndNetworksAreRead(t *testing.T) {
	probes, err := ParseProbes("8081/healthz, 8081/readyz?x=1,9000")
	require.NoError(t, err)
	require.Equal(t, []Probe{{8081, "/healthz"}, {8081, "/readyz?x=1"}, {9000, "/"}}, probes)
	_, err = ParseProbes("http/healthz")
	require.ErrorContains(t, err, `"http" is no port`)
	nets, err := ParseNetworks("10.1.2.3/8, 192.168.0.0/16")
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16")}, nets)
	_, err = ParseNetworks("10.0.0.0")
	require.Error(t, err)
}

func FuzzParseProbes(f *testing.F) {
	for _, s := range []string{"", "1/", "8081/healthz,8081/readyz", "/x", "1//x?y#z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		probes, err := ParseProbes(s)
		if err != nil {
			return
		}
		for _, p := range probes {
			again, err := ParseProbes(p.String())
			if err != nil || len(again) != 1 || again[0] != p {
				t.Fatalf("%+v became %+v (%v)", p, again, err)
			}
		}
	})
}

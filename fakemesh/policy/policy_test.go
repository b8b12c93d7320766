package policy

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
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
			in := &Inbound{Default: policy, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
			for i, c := range clients {
				d := in.Connection(c)
				require.Equal(t, want[i], d.Allowed, "%v", c)
				require.Equal(t, Ref{Kind: "default", Name: string(policy)}, d.Server)
				switch {
				case !want[i]:
					require.Zero(t, d.Authz)
				case i == 4:
					require.Equal(t, "localhost", d.Authz.Name)
				default:
					require.Equal(t, string(policy), d.Authz.Name)
				}
				r, _ := http.NewRequest(http.MethodPost, "http://x/orders", nil)
				require.Equal(t, want[i], in.Request(c, 9090, r).Allowed, "%v", c)
			}
		})
	}
}

func TestProbesAreLetInWhateverThePolicy(t *testing.T) {
	in := &Inbound{Default: Deny, Probes: []Probe{{8081, "/healthz"}, {8081, "/readyz?full=1"}}}
	kubelet := Client{Addr: netip.MustParseAddr("172.18.0.2")}
	for name, tc := range map[string]struct {
		method, target string
		port           uint16
		want           bool
	}{
		"a liveness probe":                  {"GET", "/healthz", 8081, true},
		"a readiness probe with its query":  {"GET", "/readyz?full=1", 8081, true},
		"the path on another port":          {"GET", "/healthz", 9090, false},
		"another path":                      {"GET", "/orders", 8081, false},
		"a path below":                      {"GET", "/healthz/x", 8081, false},
		"a write to the path":               {"POST", "/healthz", 8081, false},
		"the path hidden in a longer query": {"GET", "/orders?/healthz", 8081, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(tc.method, "http://x"+tc.target, nil)
			require.NoError(t, err)
			d := in.Request(kubelet, tc.port, r)
			require.Equal(t, tc.want, d.Allowed)
			if tc.want {
				require.Equal(t, "probe", d.Route.Name)
				require.Equal(t, "probe", d.Authz.Name)
			} else {
				require.Equal(t, "default", d.Route.Name)
			}
		})
	}
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

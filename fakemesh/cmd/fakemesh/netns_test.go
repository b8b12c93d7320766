//go:build netns

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// Two network namespaces stand for two pods, with the real rules and the real
// program in each. Run as root: go test -tags netns ./fakemesh/cmd/fakemesh
const (
	clientNS, serverNS = "fakemesh-client", "fakemesh-server"
	clientIP, serverIP = "10.77.0.1", "10.77.0.2"
	roleEnv            = "FAKEMESH_TEST_ROLE"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "app":
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s from %s", r.Header.Get("L5d-Client-Id"), r.RemoteAddr)
		})
		go func() { _ = http.ListenAndServe(":9091", h) }()
		_ = http.ListenAndServe(":9090", h)
		os.Exit(1)
	case "get":
		client := &http.Client{Timeout: 8 * time.Second}
		res, err := client.Get(os.Args[len(os.Args)-1])
		if err != nil {
			fmt.Println("error", err)
			os.Exit(0)
		}
		body, _ := io.ReadAll(res.Body)
		fmt.Printf("%d %s", res.StatusCode, body)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	require.NoError(t, err, "%v: %s", argv, out)
	return string(out)
}

// inside starts a program in a namespace; it ends with the test.
func inside(t *testing.T, ns string, uid uint32, env []string, argv ...string) {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, argv...)...)
	if uid != 0 {
		cmd = exec.Command("ip", append([]string{"netns", "exec", ns, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups", "--bounding-set=-all"}, argv...)...)
	}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
}

type allTokens struct{}

func (allTokens) TokenReview(_ context.Context, token, _ string) (string, error) {
	return "system:serviceaccount:prod-app:" + token, nil
}

type noEvents struct{}

func (noEvents) Issuer(bool, string, string) {}
func (noEvents) Issued(meshid.ID, string)    {}

// fixed tells of one server.
type fixed struct {
	meshapi.UnimplementedDestinationServer
}

func (fixed) Watch(req *meshapi.WatchRequest, stream meshapi.Destination_WatchServer) error {
	d := &meshapi.Destinations{}
	switch req.Address {
	case serverIP + ":9090":
		d = &meshapi.Destinations{Kind: meshapi.Destinations_POD, Namespace: "prod-app", Endpoints: []*meshapi.Endpoint{{
			Ip: serverIP, Port: 9090, Identity: nameOf("web"), Pod: "web-1", Namespace: "prod-app",
		}}}
	}
	if err := stream.Send(d); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// told passes on rules as they come, to every proxy that asks.
type told struct {
	meshapi.UnimplementedPolicyServer
	deny chan struct{} // closed when nobody is to be let in any more
}

func (p told) WatchInbound(req *meshapi.WatchInboundRequest, stream meshapi.Policy_WatchInboundServer) error {
	d := policy.Defaults{Policy: policy.Default(req.DefaultPolicy)}
	if err := stream.Send(d.Rules()); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return nil
	case <-p.deny:
	}
	d.Policy = policy.Deny
	if err := stream.Send(d.Rules()); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func nameOf(sa string) string {
	return meshid.ID{ServiceAccount: sa, Namespace: "prod-app"}.Name(meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"})
}

// served are the addresses of identity, destination and policy.
type served struct{ identity, destination, policy string }

// controlPlane serves identity, destination and policy in this namespace, on the
// host's end of each pod's own link. Closing deny changes every pod's rules.
func controlPlane(t *testing.T, root *meshtest.CA, ips ...string) (at map[string]served, deny chan struct{}) {
	t.Helper()
	dir := t.TempDir()
	cert, key := root.Issue(t, "issuer", meshtest.Spec{}).PEM(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	service, err := identity.NewService(identity.Options{
		IssuerDir: dir, Roots: root.Pool(), Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}, Validity: identity.Validity{Lifetime: time.Hour, ClockSkew: time.Minute},
		Reviewer: allTokens{}, Recorder: noEvents{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(t, err)
	ids := newGRPC(credentials.NewTLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return service.ServerCertificate(nameOf("identity"))
	}}))
	meshapi.RegisterIdentityServer(ids, service)
	creds := meshtls.NewCredentials(nameOf("destination"), root.Pool())
	require.NoError(t, creds.Set(root.Leaf(t, nameOf("destination"), time.Hour)))
	dsts := newGRPC(credentials.NewTLS(creds.Server()))
	meshapi.RegisterDestinationServer(dsts, fixed{})
	rules := newGRPC(credentials.NewTLS(creds.Server()))
	deny = make(chan struct{})
	meshapi.RegisterPolicyServer(rules, told{deny: deny})
	t.Cleanup(func() { ids.Stop(); dsts.Stop(); rules.Stop() })
	at = map[string]served{}
	for _, ip := range ips {
		on := func(s interface{ Serve(net.Listener) error }) string {
			l, err := net.Listen("tcp4", net.JoinHostPort(ip, "0"))
			require.NoError(t, err)
			go func() { _ = s.Serve(l) }()
			return l.Addr().String()
		}
		at[ip] = served{identity: on(ids), destination: on(dsts), policy: on(rules)}
	}
	return at, deny
}

func TestTheRealRulesAndTheRealProxyCarryMutualTLSBetweenTwoPods(t *testing.T) {
	root := meshtest.Root(t, "root")
	for _, ns := range []string{clientNS, serverNS} {
		_ = exec.Command("ip", "netns", "del", ns).Run()
		sh(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		sh(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	link := func(a, nsA, ipA, b, nsB, ipB string) {
		sh(t, "ip", "link", "add", a, "type", "veth", "peer", "name", b)
		for _, e := range [][3]string{{a, nsA, ipA}, {b, nsB, ipB}} {
			if e[1] == "" {
				sh(t, "ip", "addr", "add", e[2], "dev", e[0])
				sh(t, "ip", "link", "set", e[0], "up")
				continue
			}
			sh(t, "ip", "link", "set", e[0], "netns", e[1])
			sh(t, "ip", "-n", e[1], "addr", "add", e[2], "dev", e[0])
			sh(t, "ip", "-n", e[1], "link", "set", e[0], "up")
		}
	}
	link("fmc", clientNS, clientIP+"/24", "fms", serverNS, serverIP+"/24")
	link("fmhc", "", "10.77.1.1/30", "fmc0", clientNS, "10.77.1.2/30")
	link("fmhs", "", "10.77.2.1/30", "fms0", serverNS, "10.77.2.2/30")
	controls, deny := controlPlane(t, root, "10.77.1.1", "10.77.2.1")

	binary := filepath.Join(t.TempDir(), "fakemesh")
	sh(t, "go", "build", "-o", binary, ".")
	require.NoError(t, os.Chmod(filepath.Dir(binary), 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(binary)), 0o755))
	anchors := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Cert.Raw}))
	self, err := os.Executable()
	require.NoError(t, err)
	start := func(ns, ip, host, name string, skip ...string) {
		token := filepath.Join(filepath.Dir(binary), "token-"+name)
		require.NoError(t, os.WriteFile(token, []byte(name), 0o644))
		initialise := append([]string{"ip", "netns", "exec", ns, "setpriv", "--bounding-set=-all,+net_admin,+net_raw", binary, "init"}, skip...)
		sh(t, initialise...)
		once := rules(t, ns)
		require.NotEmpty(t, once)
		sh(t, initialise...)
		require.Equal(t, once, rules(t, ns), "it can be done again")
		inside(t, ns, contract.ProxyUID, []string{
			contract.EnvLocalName + "=" + nameOf(name), contract.EnvTokenFile + "=" + token,
			contract.EnvIdentityAddr + "=" + controls[host].identity, contract.EnvIdentityName + "=" + nameOf("identity"),
			contract.EnvDestinationAddr + "=" + controls[host].destination, contract.EnvDestinationName + "=" + nameOf("destination"),
			contract.EnvPolicyAddr + "=" + controls[host].policy, contract.EnvPolicyName + "=" + nameOf("destination"),
			contract.EnvTrustAnchors + "=" + anchors, contract.EnvDefaultPolicy + "=all-authenticated", contract.EnvPodIP + "=" + ip,
			contract.EnvGracePeriod + "=2s", "GOMEMLIMIT=200MiB",
		}, binary, "proxy")
		sh(t, "ip", "netns", "exec", ns, binary, "await", "--timeout=10s")
	}
	inside(t, serverNS, 0, []string{roleEnv + "=app"}, self)
	require.Error(t, exec.Command("ip", "netns", "exec", clientNS, "setpriv", "--bounding-set=-all", binary, "init").Run(), "without NET_ADMIN")
	start(clientNS, clientIP, "10.77.1.1", "client", "--inbound-ports-to-ignore=4190,4191", "--outbound-ports-to-ignore=9092-9093")
	start(serverNS, serverIP, "10.77.2.1", "web", "--inbound-ports-to-ignore=4190,4191,9091")

	get := func(argv ...string) string {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), roleEnv+"=get")
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	in := func(ns string, rest ...string) []string { return append([]string{"ip", "netns", "exec", ns}, rest...) }
	require.Equal(t, "200 "+nameOf("client")+" from "+serverIP,
		strings.SplitN(get(in(clientNS, self, "http://"+serverIP+":9090/")...), ":", 2)[0], "meshed")
	require.Contains(t, get(self, "http://10.77.2.2:9090/"), "403", "in the clear")
	require.Equal(t, "200  from 10.77.2.1", strings.SplitN(get(self, "http://10.77.2.2:9091/"), ":", 2)[0], "an inbound port that is skipped")
	asProxy := in(clientNS, "setpriv", fmt.Sprintf("--reuid=%d", contract.ProxyUID), fmt.Sprintf("--regid=%d", contract.ProxyUID), "--clear-groups", self, "http://"+serverIP+":9090/")
	require.Contains(t, get(asProxy...), "403", "what the proxy's own user dials is not redirected")
	for _, port := range []string{"9092", "9094"} {
		require.Contains(t, get(in(clientNS, self, "http://"+serverIP+":"+port+"/")...), "403")
	}
	dialled := get(in(clientNS, self, "http://127.0.0.1:4191/metrics")...)
	require.NotContains(t, dialled, `target_port="9092"`, "an outbound port that is skipped")
	require.Contains(t, dialled, `target_port="9094"`, "one that is not")
	require.Contains(t, get(in(serverNS, self, "http://127.0.0.1:9090/")...), "200  from 127.0.0.1", "loopback is left alone")
	require.Contains(t, get(in(serverNS, self, "http://"+serverIP+":9090/")...), "200  from "+serverIP, "and so is the pod itself")

	metrics := get(in(serverNS, self, "http://127.0.0.1:4191/metrics")...)
	require.Contains(t, metrics, `client_id="`+nameOf("client")+`"`)
	require.Contains(t, metrics, "inbound_http_authz_deny_total{")
	require.Contains(t, metrics, `identity_cert_refresh_count 1`)

	// The controller has the last word, in a proxy that runs already.
	close(deny)
	require.Eventually(t, func() bool {
		return strings.HasPrefix(get(in(clientNS, self, "http://"+serverIP+":9090/")...), "403")
	}, 5*time.Second, 50*time.Millisecond)
	require.Contains(t, get(self, "http://10.77.2.2:4191/metrics"), "403", "monitoring is a client like others")
	require.Contains(t, get(in(serverNS, self, "http://127.0.0.1:4191/metrics")...), `srv_name="deny"`)

	proxies := 0
	for _, pid := range strings.Fields(sh(t, "ip", "netns", "pids", clientNS)) {
		command, err := os.ReadFile("/proc/" + pid + "/cmdline")
		require.NoError(t, err)
		if !strings.Contains(string(command), binary) {
			continue
		}
		proxies++
		status, err := os.ReadFile("/proc/" + pid + "/status")
		require.NoError(t, err)
		require.Regexp(t, `(?m)^Uid:\s+2102\s+2102\s+2102\s+2102$`, string(status))
		require.Regexp(t, `(?m)^CapEff:\s+0+$`, string(status))
	}
	require.Equal(t, 1, proxies)
}

// rules are those of a namespace as the kernel lists them.
func rules(t *testing.T, ns string) []string {
	t.Helper()
	f, err := os.Open("/var/run/netns/" + ns)
	require.NoError(t, err)
	defer f.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(f.Fd())))
	require.NoError(t, err)
	chains, err := conn.ListChains()
	require.NoError(t, err)
	var all []string
	for _, c := range chains {
		list, err := conn.GetRules(c.Table, c)
		require.NoError(t, err)
		for _, r := range list {
			text, err := json.Marshal(r.Exprs)
			require.NoError(t, err)
			all = append(all, fmt.Sprintf("%s/%s %s", c.Table.Name, c.Name, text))
		}
	}
	return all
}

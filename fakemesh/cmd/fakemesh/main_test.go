package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// program runs it and gives its exit code and what it wrote.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), args, func(string) string { return "" }, &out, &err)
	return code, out.String(), err.String()
}

// adminPort serves what a proxy's admin server would.
func adminPort(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	return u.Port()
}

func TestAwaitEndsOnceTheProxyIsReady(t *testing.T) {
	var asked atomic.Int64
	port := adminPort(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "GET /ready", r.Method+" "+r.URL.Path)
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	code, _, _ := program(t, "await", "--port="+port, "--timeout=30s")
	require.Zero(t, code)
	require.EqualValues(t, 3, asked.Load())
}

func TestAwaitGivesUpWith69(t *testing.T) {
	port := adminPort(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	code, _, stderr := program(t, "await", "--port="+port, "--timeout=200ms")
	require.Equal(t, 69, code)
	require.Contains(t, stderr, "did not become ready within 200ms")
	code, _, stderr = program(t, "await", "--port=1", "--timeout=200ms")
	require.Equal(t, 69, code)
	require.Contains(t, stderr, "connection refused")
}

func TestSleepTellsTheProxyToDrainMeanwhile(t *testing.T) {
	var drained atomic.Int64
	port := adminPort(t, func(_ http.ResponseWriter, r *http.Request) {
		require.Equal(t, "POST /drain", r.Method+" "+r.URL.Path)
		drained.Add(1)
	})
	code, _, _ := program(t, "sleep", "--port="+port, "--drain-after=0s", "1")
	require.Zero(t, code)
	require.Positive(t, drained.Load())
	drained.Store(0)
	code, _, _ = program(t, "sleep", "--port="+port, "0")
	require.Zero(t, code)
	require.Zero(t, drained.Load())
}

func TestWrongUseIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"nothing":              {nil, 2, "Commands:"},
		"an unknown command":   {[]string{"dance"}, 2, `unknown command "dance"`},
		"an unknown flag":      {[]string{"await", "--loud"}, 2, "flag provided but not defined: -loud"},
		"no seconds":           {[]string{"sleep"}, 2, "sleep takes the number of seconds"},
		"no number of seconds": {[]string{"sleep", "soon"}, 2, `"soon" is no number of seconds`},
		"no port":              {[]string{"init", "--incoming-proxy-port=70000"}, 2, "--incoming-proxy-port: 70000 is more than 65535"},
		"no port out":          {[]string{"init", "--outgoing-proxy-port=65536"}, 2, "--outgoing-proxy-port: 65536 is more than 65535"},
		"no user":              {[]string{"init", "--proxy-uid=4294969398"}, 2, "--proxy-uid: 4294969398 is more than 4294967295"},
		"no ports to skip":     {[]string{"init", "--inbound-ports-to-ignore=mysql"}, 2, `--inbound-ports-to-ignore: port list "mysql": "mysql" is no port`},
		"no ports to skip out": {[]string{"init", "--outbound-ports-to-ignore=5-4"}, 2, "--outbound-ports-to-ignore: "},
		"no opaque ports":      {[]string{"destination", "--opaque-ports=mysql"}, 2, `--opaque-ports: port list "mysql": "mysql" is no port`},
		"no networks":          {[]string{"policy", "--cluster-networks=here"}, 2, "--cluster-networks: "},
		"no probe networks":    {[]string{"policy", "--probe-networks=there"}, 2, "--probe-networks: "},
		"no policy":            {[]string{"policy", "--default-policy=everyone"}, 2, "--default-policy: "},
		"no environment":       {[]string{"proxy"}, 1, "LINKERD2_PROXY_IDENTITY_LOCAL_NAME: is not set"},
		"an unknown scheme":    {[]string{"identity", "--issuer-scheme=spiffe"}, 2, "--issuer-scheme: "},
		"outside of a cluster": {[]string{"identity"}, 1, "read the pod's service account"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := program(t, tc.args...)
			require.Equal(t, tc.code, code)
			require.Contains(t, stderr, tc.says)
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	code, _, stderr := program(t, "init", "-h")
	require.Zero(t, code)
	require.Contains(t, stderr, "inbound-ports-to-ignore")
}

func TestTheVersionIsTheStandInsOwn(t *testing.T) {
	code, stdout, _ := program(t, "version")
	require.Zero(t, code)
	require.Equal(t, "fakemesh-0.1\n", stdout)
}

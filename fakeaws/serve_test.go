package fakeaws

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freePort returns a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func testOptions(t *testing.T) Options {
	return Options{
		KMSListen: freePort(t), AdminListen: freePort(t), ALBHTTP: freePort(t), ALBGRPC: freePort(t),
		State: filepath.Join(t.TempDir(), "state"), Region: "us-east-1", Account: "123456789012",
		Aliases: []string{"alias/vault-unseal"}, Access: io.Discard, Log: slog.New(slog.DiscardHandler),
	}
}

// serving runs Serve until the test ends, and waits until its admin page answers.
func serving(t *testing.T, o Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
	})
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + o.AdminListen + "/-/ready")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil
	}, 5*time.Second, 5*time.Millisecond)
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

func TestKMSServesAloneWithoutACluster(t *testing.T) {
	o := testOptions(t)
	serving(t, o)
	require.Equal(t, 200, statusOf(t, "http://"+o.AdminListen+"/-/ready"))
	require.Equal(t, 400, statusOf(t, "http://"+o.KMSListen+"/"), "KMS takes POST only")
	_, err := net.Dial("tcp", o.ALBHTTP)
	require.Error(t, err, "no load balancer")
}

func TestKMSServesBeforeTheClusterIsThere(t *testing.T) {
	o := testOptions(t)
	o.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	serving(t, o)
	require.Equal(t, 400, statusOf(t, "http://"+o.KMSListen+"/"))
	require.Equal(t, 503, statusOf(t, "http://"+o.AdminListen+"/-/ready"))
	require.Equal(t, 404, statusOf(t, "http://"+o.ALBHTTP+"/api"), "no rules yet")
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`

func TestAKubeconfigIsWaitedForUntilItIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	var logs strings.Builder
	log := slog.New(slog.NewTextHandler(&logs, nil))
	step := 0
	for _, content := range []string{kubeconfig[:20], kubeconfig} {
		time.AfterFunc(time.Duration(step)*300*time.Millisecond, func() { _ = os.WriteFile(path, []byte(content), 0o600) })
		step++
	}
	client, err := connect(t.Context(), path, log)
	require.NoError(t, err)
	require.NotNil(t, client)
	require.Contains(t, logs.String(), "waiting for the kubeconfig")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("enough"))
	_, err = connect(ctx, filepath.Join(t.TempDir(), "none"), log)
	require.EqualError(t, err, "enough")
}

func TestAnUnknownTargetTypeIsRefused(t *testing.T) {
	o := testOptions(t)
	o.ALB.TargetType = "lambda"
	require.EqualError(t, Serve(t.Context(), o), `there is no target type "lambda", only instance and ip`)
}

func TestTheWebhookIsFoundAtTheAddressTowardsTheAPIServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	_, err := ownAddress(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(kubeconfig), 0o600))
	host, err := ownAddress(path)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
}

func TestTheGatesDoorOpensWithTheLoadBalancer(t *testing.T) {
	o := testOptions(t)
	o.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	o.ALB.GateListen = freePort(t)
	serving(t, o)
	conn, err := net.Dial("tcp", o.ALB.GateListen)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestATakenPortOpensNothing(t *testing.T) {
	o := testOptions(t)
	o.Kubeconfig = "kubeconfig"
	taken, err := net.Listen("tcp", o.ALBGRPC)
	require.NoError(t, err)
	defer taken.Close()
	require.ErrorContains(t, Serve(t.Context(), o), "address already in use")
	for _, addr := range []string{o.KMSListen, o.AdminListen, o.ALBHTTP} {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err, "%s was closed again", addr)
		require.NoError(t, l.Close())
	}
}

func TestAStateThatCannotBeReadEndsIt(t *testing.T) {
	o := testOptions(t)
	require.NoError(t, os.MkdirAll(o.State, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(o.State, "kms-key.json"), []byte("?"), 0o600))
	require.ErrorContains(t, Serve(t.Context(), o), "open the KMS key")
}

package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/policy"
)

const aToken = "the-token-of-web"

// controlPlane is a real identity service, and a destination service that
// knows what the test tells it.
type controlPlane struct {
	meshapi.UnimplementedDestinationServer
	root     *meshtest.CA
	identity string // addresses
	dst      string
	open     atomic.Bool // tokens are accepted
	answers  map[string]*meshapi.Destinations
}

func (c *controlPlane) TokenReview(_ context.Context, token, _ string) (string, error) {
	if !c.open.Load() || token != aToken {
		return "", errors.New("not now")
	}
	return "system:serviceaccount:prod-app:web", nil
}

func (*controlPlane) Issuer(bool, string, string) {}
func (*controlPlane) Issued(meshid.ID, string)    {}

func (c *controlPlane) Watch(req *meshapi.WatchRequest, stream meshapi.Destination_WatchServer) error {
	d := c.answers[req.Address]
	if d == nil {
		d = &meshapi.Destinations{}
	}
	if err := stream.Send(d); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	return startControlPlaneWith(t, identity.Validity{Lifetime: time.Hour, ClockSkew: time.Minute})
}

// startControlPlaneWith issues leaves of that validity.
func startControlPlaneWith(t *testing.T, validity identity.Validity) *controlPlane {
	t.Helper()
	c := &controlPlane{root: meshtest.Root(t, "root"), answers: map[string]*meshapi.Destinations{}}
	c.open.Store(true)
	dir := t.TempDir()
	cert, key := c.root.Issue(t, "issuer", meshtest.Spec{}).PEM(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	service, err := identity.NewService(identity.Options{
		IssuerDir: dir, Roots: c.root.Pool(), Mesh: ofMesh, Validity: validity,
		Reviewer: c, Recorder: c, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	serve := func(cfg *tls.Config, register func(grpc.ServiceRegistrar)) string {
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
		register(s)
		l := listenOn(t, "127.0.0.1")
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return l.Addr().String()
	}
	c.identity = serve(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return service.ServerCertificate(identityOf("linkerd-identity"))
	}}, func(r grpc.ServiceRegistrar) { meshapi.RegisterIdentityServer(r, service) })
	c.dst = serve(c.root.Credentials(t, identityOf("linkerd-destination")).Server(), func(r grpc.ServiceRegistrar) { meshapi.RegisterDestinationServer(r, c) })
	return c
}

// whole is a proxy as its container runs it, but for redirection.
type whole struct {
	t        *testing.T
	c        Config
	log      *lines
	end      context.CancelFunc // SIGTERM
	finished chan error
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startWhole runs a proxy for the application at app; what is dialled by its
// outbound port goes to vip.
func startWhole(t *testing.T, cp *controlPlane, app, vip netip.AddrPort, change func(*Config)) *whole {
	t.Helper()
	address := func() string {
		l := listenOn(t, "127.0.0.1")
		defer l.Close()
		return l.Addr().String()
	}
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(aToken), 0o600))
	w := &whole{t: t, log: &lines{}, finished: make(chan error, 1), c: Config{
		Pod: "prod-app/web-1", LocalName: identityOf("web"), Roots: cp.root.Pool(), TokenFile: token,
		IdentityAddr: cp.identity, IdentityName: identityOf("linkerd-identity"),
		DestinationAddr: cp.dst, DestinationName: identityOf("linkerd-destination"),
		Policy: policy.Defaults{Policy: policy.AllUnauthenticated}, GracePeriod: 5 * time.Second,
		InboundConnect: time.Second, OutboundConnect: time.Second, DetectTimeout: time.Second,
		InboundListen: address(), OutboundListen: address(), AdminListen: address(),
	}}
	w.c.OriginalDst = func(c net.Conn) (netip.AddrPort, error) {
		if c.LocalAddr().String() == w.c.InboundListen {
			return app, nil
		}
		return vip, nil
	}
	if change != nil {
		change(&w.c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() { w.finished <- Run(ctx, w.c, log) }()
	t.Cleanup(func() {
		cancel()
		w.over()
	})
	return w
}

// over waits for the proxy's end.
func (w *whole) over() {
	w.t.Helper()
	select {
	case err := <-w.finished:
		require.NoError(w.t, err)
		w.finished <- nil
	case <-time.After(20 * time.Second):
		w.t.Fatal("the proxy does not end")
	}
}

// admin asks the proxy of itself; 0 when it does not answer.
func (w *whole) admin(method, path string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://"+w.c.AdminListen+path, nil)
	require.NoError(w.t, err)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := c.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (w *whole) ready() bool {
	status, _ := w.admin(http.MethodGet, "/ready")
	return status == http.StatusOK
}

func (w *whole) awaitReady() {
	w.t.Helper()
	require.Eventually(w.t, w.ready, 10*time.Second, 10*time.Millisecond)
}

// application serves h until the test ends.
func application(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	l := listenOn(t, "127.0.0.1")
	t.Cleanup(web(h)(l))
	return addrOf(l)
}

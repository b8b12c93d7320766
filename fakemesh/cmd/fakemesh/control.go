package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// maxStreams is how many calls one proxy has open at a time: it watches each
// address that its application dials.
const maxStreams = 4096

// lameDuck is how long a webhook takes calls after it was told to end. Its pod
// leaves its Service at that moment, but API servers and nodes learn that late;
// what is refused meanwhile fails the creation of a pod under failurePolicy Fail.
// Proxies need no such time: they try again. Together with drainTime it is well
// within the 30 s that a pod has to end.
const lameDuck = 5 * time.Second

// drainTime is how long a control plane server lets calls end.
const drainTime = 5 * time.Second

// health serves /live and /ready until ctx ends.
func health(ctx context.Context, addr string, ready func() bool) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	return serveHTTP(ctx, addr, mux, nil)
}

// serveHTTP serves until ctx ends, and on for as long as others may not know it.
func serveHTTP(ctx context.Context, addr string, h http.Handler, cfg *tls.Config) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	return serveOn(ctx, l, h, ending{lameDuck, drainTime})
}

// ending is how a server ends: it goes on taking calls for a while, then lets
// those end that it has.
type ending struct{ lameDuck, drain time.Duration }

func serveOn(ctx context.Context, l net.Listener, h http.Handler, end ending) error {
	server := &http.Server{
		Handler: leaving(ctx, h), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		time.Sleep(end.lameDuck)
		drain, cancel := context.WithTimeout(context.Background(), end.drain)
		defer cancel()
		ended <- server.Shutdown(drain)
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	// Serve returns when Shutdown begins.
	if err := <-ended; err != nil {
		server.Close()
		return fmt.Errorf("let the calls on %s end: %w", l.Addr(), err)
	}
	return nil
}

// leaving tells clients, once ctx has ended, to come back by another connection.
// Who finds out by a connection that is closed may be sending on it.
func leaving(ctx context.Context, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

func newGRPC(creds credentials.TransportCredentials) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(creds),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.MaxRecvMsgSize(128<<10),
		grpc.MaxHeaderListSize(16<<10),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10*time.Second),
	)
}

// serveGRPC serves until ctx ends; streams then have drainTime to end.
func serveGRPC(ctx context.Context, addr string, server *grpc.Server) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() {
		hard := time.AfterFunc(drainTime, server.Stop)
		defer hard.Stop()
		server.GracefulStop()
	})
	defer stop()
	if err := server.Serve(l); err != nil {
		return fmt.Errorf("serve on %s: %w", addr, err)
	}
	return nil
}

// together runs all until one fails or ctx ends, and waits for all.
func together(ctx context.Context, all ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Go(func() {
			if errs[i] = f(ctx); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func runIdentity(ctx context.Context, o *options) error {
	listen := o.flags.String("listen", ":8080", "`address` of the gRPC service")
	adminAddr := o.flags.String("admin", ":9990", "`address` of the health checks")
	issuerDir := o.flags.String("issuer-dir", contract.MountIssuer, "`folder` with the issuer's certificate and key")
	issuerScheme := o.flags.String("issuer-scheme", string(identity.SchemeKubernetes), "how they are called: kubernetes.io/tls or linkerd.io/tls")
	roots := o.flags.String("trust-roots", filepath.Join(contract.MountTrustRoots, contract.TrustRootsKey), "`file` with the trust anchors")
	domain := o.flags.String("trust-domain", "cluster.local", "trust `domain`")
	namespace := o.flags.String("namespace", meshid.ControlPlaneNamespace, "`namespace` of the control plane")
	lifetime := o.flags.Duration("issuance-lifetime", 24*time.Hour, "life of a leaf")
	skew := o.flags.Duration("clock-skew-allowance", 20*time.Second, "allowance for clocks that differ")
	if err := o.parse(); err != nil {
		return err
	}
	scheme, err := identity.ParseScheme(*issuerScheme)
	if err != nil {
		return wrongFlag("issuer-scheme", err)
	}
	client, err := kubeapi.InCluster()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*roots)
	if err != nil {
		return fmt.Errorf("read the trust anchors: %w", err)
	}
	pool, err := meshtls.ParseAnchors(text)
	if err != nil {
		return err
	}
	mesh := meshid.Mesh{Namespace: *namespace, TrustDomain: *domain}
	events := kubeapi.NewEvents(client, "linkerd-identity")
	defer events.Close()
	service, err := identity.NewService(identity.Options{
		IssuerDir: *issuerDir, Scheme: scheme, Roots: pool, Mesh: mesh,
		Validity: identity.Validity{Lifetime: *lifetime, ClockSkew: *skew},
		Reviewer: client, Recorder: identityEvents{events, *namespace}, Log: o.log,
	})
	if err != nil {
		return err
	}
	own := meshid.ID{ServiceAccount: "linkerd-identity", Namespace: *namespace}.Name(mesh)
	server := newGRPC(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256}, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return service.ServerCertificate(own) },
	}))
	meshapi.RegisterIdentityServer(server, service)
	o.log.Info("identity started", "version", contract.Version)
	return together(ctx,
		func(ctx context.Context) error { return serveGRPC(ctx, *listen, server) },
		func(ctx context.Context) error { return health(ctx, *adminAddr, func() bool { return true }) },
		func(ctx context.Context) error { service.Watch(ctx, time.Second); return nil },
	)
}

// identityEvents writes the identity service's events.
type identityEvents struct {
	events    *kubeapi.Events
	namespace string
}

func (e identityEvents) Issuer(warning bool, reason, message string) {
	ref := &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: e.namespace, Name: "linkerd-identity"}
	if warning {
		e.events.Warning(ref, reason, message)
		return
	}
	e.events.Normal(ref, reason, message)
}

func (e identityEvents) Issued(id meshid.ID, message string) {
	e.events.Normal(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "ServiceAccount", Namespace: id.Namespace, Name: id.ServiceAccount,
	}, identity.ReasonIssued, message)
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/admit"
	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/destination"
	"meshsim.dev/meshsim/fakemesh/injector"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/leaf"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy"
)

func runDestination(ctx context.Context, o *options) error {
	listen := o.flags.String("listen", ":8086", "`address` of the gRPC service")
	adminAddr := o.flags.String("admin", ":9996", "`address` of the health checks")
	roots := o.flags.String("trust-roots", filepath.Join(contract.MountTrustRoots, contract.TrustRootsKey), "`file` with the trust anchors")
	domain := o.flags.String("trust-domain", "cluster.local", "trust `domain`")
	namespace := o.flags.String("namespace", meshid.ControlPlaneNamespace, "`namespace` of the control plane")
	idAddr := o.flags.String("identity", "linkerd-identity-headless.linkerd.svc.cluster.local:8080", "`address` of the identity service")
	token := o.flags.String("token", contract.TokenFile, "`file` with the service account token")
	opaque := o.flags.String("opaque-ports", "", "`ports` that carry opaque bytes unless an annotation says otherwise")
	if err := o.parse(); err != nil {
		return err
	}
	opaquePorts, err := ports.Parse(*opaque)
	if err != nil {
		return wrongFlag("opaque-ports", err)
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
	name := func(sa string) string { return meshid.ID{ServiceAccount: sa, Namespace: *namespace}.Name(mesh) }
	creds := meshtls.NewCredentials(name("linkerd-destination"), pool)
	keeper, closeKeeper, err := newKeeper(o, creds, *idAddr, name("linkerd-identity"), *token)
	if err != nil {
		return err
	}
	defer closeKeeper()
	index, err := destination.NewIndex(client, destination.Settings{Mesh: mesh, OpaquePorts: opaquePorts}, o.log)
	if err != nil {
		return err
	}
	server := newGRPC(credentials.NewTLS(creds.Server()))
	meshapi.RegisterDestinationServer(server, &destination.Server{Index: index})
	ready := func() bool { return creds.Leaf() != nil && index.HasSynced() }
	o.log.Info("destination started", "version", contract.Version)
	return together(ctx,
		func(ctx context.Context) error { return serveGRPC(ctx, *listen, server) },
		func(ctx context.Context) error { return health(ctx, *adminAddr, ready) },
		func(ctx context.Context) error { keeper.Run(ctx); return nil },
		func(ctx context.Context) error { index.Run(ctx); return nil },
	)
}

func newKeeper(o *options, creds *meshtls.Credentials, addr, name, token string) (*leaf.Keeper, func(), error) {
	conn, err := grpc.NewClient("dns:///"+addr, grpc.WithTransportCredentials(proxy.IdentityTLS(creds, name)))
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the connection to %s: %w", addr, err)
	}
	client := meshapi.NewIdentityClient(conn)
	keeper := leaf.New(leaf.Options{
		Credentials: creds, TokenFile: token, Log: o.log,
		Certify: func(ctx context.Context, r *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
			return client.Certify(ctx, r)
		},
	})
	return keeper, func() { conn.Close() }, nil
}

func runInjector(ctx context.Context, o *options) error {
	listen := o.flags.String("listen", ":8443", "`address` of the webhook")
	adminAddr := o.flags.String("admin", ":9995", "`address` of the health checks")
	config := o.flags.String("config", filepath.Join(contract.MountConfig, contract.ConfigFile), "`file` with the mesh's values")
	roots := o.flags.String("trust-roots", filepath.Join(contract.MountTrustRoots, contract.TrustRootsKey), "`file` with the trust anchors")
	tlsDir := o.flags.String("tls-dir", contract.MountWebhookTLS, "`folder` with the webhook's tls.crt and tls.key")
	namespace := o.flags.String("namespace", meshid.ControlPlaneNamespace, "`namespace` of the control plane")
	if err := o.parse(); err != nil {
		return err
	}
	client, err := kubeapi.InCluster()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*config)
	if err != nil {
		return fmt.Errorf("read the mesh's values: %w", err)
	}
	if _, err := injector.ParseConfig(text); err != nil {
		return err
	}
	events := kubeapi.NewEvents(client, "linkerd-proxy-injector")
	defer events.Close()
	hook := &injector.Webhook{
		ConfigFile: *config, AnchorsFile: *roots, Namespace: *namespace, Cluster: client,
		Owners: kubeapi.NewOwners(client), Recorder: events, Log: o.log,
	}
	certificate := admit.NewCertificate(*tlsDir, o.log)
	if _, err := certificate.Get(nil); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /", hook)
	o.log.Info("injector started", "version", contract.Version)
	return together(ctx,
		func(ctx context.Context) error {
			return serveHTTP(ctx, *listen, mux, certificate.Config())
		},
		func(ctx context.Context) error { return health(ctx, *adminAddr, func() bool { return true }) },
	)
}

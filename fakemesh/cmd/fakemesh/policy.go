package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/admit"
	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/admission"
	"meshsim.dev/meshsim/fakemesh/policy/control"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// policyFlags are what the policy controller is told.
type policyFlags struct {
	listen, admin, webhook          string
	roots, domain, namespace        string
	identity, token, tlsDir         string
	networks, probeNetworks, policy string
}

func (o *options) policyFlags() (*policyFlags, error) {
	f := &policyFlags{}
	for _, s := range []struct {
		into                 *string
		name, value, meaning string
	}{
		{&f.listen, "listen", ":8090", "`address` of the gRPC service"},
		{&f.admin, "admin", ":9990", "`address` of the health checks"},
		{&f.webhook, "webhook", ":9443", "`address` of the webhook"},
		{&f.roots, "trust-roots", filepath.Join(contract.MountTrustRoots, contract.TrustRootsKey), "`file` with the trust anchors"},
		{&f.domain, "trust-domain", "cluster.local", "trust `domain`"},
		{&f.namespace, "namespace", meshid.ControlPlaneNamespace, "`namespace` of the control plane"},
		{&f.identity, "identity", "linkerd-identity-headless.linkerd.svc.cluster.local:8080", "`address` of the identity service"},
		{&f.token, "token", contract.TokenFile, "`file` with the service account token"},
		{&f.tlsDir, "tls-dir", contract.MountWebhookTLS, "`folder` with the webhook's tls.crt and tls.key"},
		{&f.networks, "cluster-networks", "", "`CIDRs` of the cluster"},
		{&f.probeNetworks, "probe-networks", "0.0.0.0/0,::/0", "`CIDRs` that probes come from"},
		{&f.policy, "default-policy", string(policy.AllUnauthenticated), "`policy` of pods that say nothing"},
	} {
		o.flags.StringVar(s.into, s.name, s.value, s.meaning)
	}
	return f, o.parse()
}

func (f *policyFlags) mesh() meshid.Mesh {
	return meshid.Mesh{Namespace: f.namespace, TrustDomain: f.domain}
}

func (f *policyFlags) settings() (control.Settings, error) {
	s := control.Settings{Mesh: convert.Mesh{Mesh: f.mesh()}}
	var err error
	if s.Mesh.Networks, err = policy.ParseNetworks(f.networks); err != nil {
		return s, wrongFlag("cluster-networks", err)
	}
	s.Defaults.Networks = s.Mesh.Networks
	if s.Defaults.ProbeNetworks, err = policy.ParseNetworks(f.probeNetworks); err != nil {
		return s, wrongFlag("probe-networks", err)
	}
	if s.Defaults.Policy, err = policy.ParseDefault(f.policy); err != nil {
		return s, wrongFlag("default-policy", err)
	}
	return s, nil
}

func runPolicy(ctx context.Context, o *options) error {
	f, err := o.policyFlags()
	if err != nil {
		return err
	}
	settings, err := f.settings()
	if err != nil {
		return err
	}
	client, err := kubeapi.InCluster()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(f.roots)
	if err != nil {
		return fmt.Errorf("read the trust anchors: %w", err)
	}
	pool, err := meshtls.ParseAnchors(text)
	if err != nil {
		return err
	}
	name := func(sa string) string { return meshid.ID{ServiceAccount: sa, Namespace: f.namespace}.Name(f.mesh()) }
	creds := meshtls.NewCredentials(name("linkerd-destination"), pool)
	keeper, closeKeeper, err := newKeeper(o, creds, f.identity, name("linkerd-identity"), f.token)
	if err != nil {
		return err
	}
	defer closeKeeper()
	index, err := control.NewIndex(control.CachesOf(client), settings, o.log)
	if err != nil {
		return err
	}
	certificate := admit.NewPolicyCertificate(f.tlsDir, o.log)
	if _, err := certificate.Get(nil); err != nil {
		return err
	}
	hook := &admission.Policies{Mesh: settings.Mesh, Servers: client.ServersOf, Pods: index.PodsOf, Log: o.log}
	server := newGRPC(credentials.NewTLS(creds.Server()))
	meshapi.RegisterPolicyServer(server, &control.Server{Index: index})
	o.log.Info("policy started", "version", contract.Version)
	serves := func(ctx context.Context) (bool, error) { return client.Serves(ctx, kinds.Gateway) }
	ready := func() bool { return creds.Leaf() != nil && index.HasSynced() }
	return together(ctx,
		func(ctx context.Context) error { return serveGRPC(ctx, f.listen, server) },
		func(ctx context.Context) error { return serveReviews(ctx, f.webhook, hook.Review, certificate, o) },
		func(ctx context.Context) error { return health(ctx, f.admin, ready) },
		func(ctx context.Context) error { keeper.Run(ctx); return nil },
		func(ctx context.Context) error { index.Run(ctx, serves); return nil },
		func(ctx context.Context) error { index.WriteStatuses(ctx, client.WriteRouteStatus); return nil },
	)
}

// serveReviews serves an admission webhook until ctx ends.
func serveReviews(ctx context.Context, addr string, review admit.Review, certificate *admit.Certificate, o *options) error {
	mux := http.NewServeMux()
	mux.Handle("POST /", admit.Handler(review, o.log))
	return serveHTTP(ctx, addr, mux, certificate.Config())
}

func runSPValidator(ctx context.Context, o *options) error {
	listen := o.flags.String("listen", ":8443", "`address` of the webhook")
	adminAddr := o.flags.String("admin", ":9997", "`address` of the health checks")
	tlsDir := o.flags.String("tls-dir", contract.MountWebhookTLS, "`folder` with the webhook's tls.crt and tls.key")
	if err := o.parse(); err != nil {
		return err
	}
	certificate := admit.NewCertificate(*tlsDir, o.log)
	if _, err := certificate.Get(nil); err != nil {
		return err
	}
	hook := &admission.Profiles{Log: o.log}
	o.log.Info("sp-validator started", "version", contract.Version)
	return together(ctx,
		func(ctx context.Context) error { return serveReviews(ctx, *listen, hook.Review, certificate, o) },
		func(ctx context.Context) error { return health(ctx, *adminAddr, func() bool { return true }) },
	)
}

// Package loopmesh is the stand-in's mesh without a cluster: its real proxies
// and its real identity service on loopback addresses, one address a pod, with
// tables in the place of redirection and of what Kubernetes knows.
package loopmesh

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
)

// Namespace is where all pods are.
const Namespace = "prod-app"

const (
	trustDomain = "cluster.local"
	networks    = "127.0.0.0/8" // where pods are
)

// ofMesh is what the pods' identities end with.
var ofMesh = meshid.Mesh{Namespace: meshid.ControlPlaneNamespace, TrustDomain: trustDomain}

// Options of a Mesh.
type Options struct {
	Dir string // for the issuer and tokens; must exist
	// Life is how long leaves live; a proxy renews at 70 % of it.
	Life time.Duration
	Log  *slog.Logger
}

// Mesh is a control plane with a block of loopback addresses for its pods.
type Mesh struct {
	o         Options
	block     block
	authority *authority
	directory *directory
	rulebook  *rulebook
	servers   []*grpc.Server

	ids, dsts, rules string // addresses of the three services
}

// Start starts the control plane.
func Start(o Options) (*Mesh, error) {
	m := &Mesh{o: o, directory: newDirectory(), rulebook: newRulebook(netip.MustParsePrefix(networks))}
	var err error
	if m.authority, err = newAuthority(o.Dir); err != nil {
		return nil, err
	}
	if m.block, err = takeBlock(); err != nil {
		return nil, err
	}
	if err := m.serve(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close ends the control plane.
func (m *Mesh) Close() {
	for _, s := range m.servers {
		s.Stop()
	}
	m.block.free()
}

// IdentityOf is the identity of a service account.
func IdentityOf(account string) string {
	return meshid.ID{ServiceAccount: account, Namespace: Namespace}.Name(ofMesh)
}

func (m *Mesh) serve() error {
	ids, err := identity.NewService(identity.Options{
		IssuerDir: m.o.Dir, Roots: m.authority.roots(), Mesh: ofMesh,
		Validity: identity.Validity{Lifetime: m.o.Life},
		Reviewer: anyToken{}, Recorder: untold{}, Log: m.o.Log,
	})
	if err != nil {
		return err
	}
	m.ids, err = m.start(&tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return ids.ServerCertificate(IdentityOf("identity"))
		},
	}, func(s *grpc.Server) { meshapi.RegisterIdentityServer(s, ids) })
	if err != nil {
		return err
	}
	m.dsts, err = m.startAs("destination", func(s *grpc.Server) { meshapi.RegisterDestinationServer(s, m.directory) })
	if err != nil {
		return err
	}
	m.rules, err = m.startAs("policy", func(s *grpc.Server) { meshapi.RegisterPolicyServer(s, m.rulebook) })
	return err
}

// startAs starts a service that proxies show their certificates to.
func (m *Mesh) startAs(account string, register func(*grpc.Server)) (string, error) {
	creds, err := m.authority.credentials(IdentityOf(account))
	if err != nil {
		return "", err
	}
	return m.start(creds.Server(), register)
}

func (m *Mesh) start(c *tls.Config, register func(*grpc.Server)) (string, error) {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(m.Addr(0, 2), 0).String())
	if err != nil {
		return "", fmt.Errorf("listen for the control plane: %w", err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(c)),
		// Proxies ask now and then whether it still lives.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}))
	register(s)
	m.servers = append(m.servers, s)
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), nil
}

// SetRules tells the proxies whom to let in from now on, nil to go by what each
// was made with.
func (m *Mesh) SetRules(rules *meshapi.InboundRules) { m.rulebook.rules.set(rules) }

// Set tells the proxies what is behind an address from now on.
func (m *Mesh) Set(addr netip.AddrPort, d *meshapi.Destinations) { m.directory.set(addr, d) }

// Leaf makes a certificate of the mesh's issuer for a program that is no proxy.
func (m *Mesh) Leaf(account string) (*tls.Certificate, error) {
	return m.authority.leaf(IdentityOf(account))
}

// Anchor is the certificate that all others lead to, in PEM.
func (m *Mesh) Anchor() []byte { return packCertificate(m.authority.anchor) }

// Addr is an address of this mesh's block; 0.1 and 0.2 are taken.
func (m *Mesh) Addr(a, b byte) netip.Addr { return netip.AddrFrom4([4]byte{127, m.block.second, a, b}) }

// block are the addresses 127.second.0.0/16.
type block struct {
	second byte
	hold   net.Listener
}

const firstBlock, lastBlock = 64, 254

// takeBlock finds a block that no other mesh on this machine uses.
func takeBlock() (block, error) {
	const count = lastBlock - firstBlock + 1
	for i := range count {
		second := byte(firstBlock + (os.Getpid()+i)%count)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, second, 0, 1}), contract.PortControl)
		if l, err := net.Listen("tcp4", addr.String()); err == nil {
			return block{second, l}, nil
		}
	}
	return block{}, errors.New("no block of loopback addresses is free")
}

func (b block) free() { b.hold.Close() }

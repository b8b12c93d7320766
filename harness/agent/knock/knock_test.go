package knock

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/harness/agent/plaintext"
)

const name = "order-processing.prod-app.serviceaccount.identity.linkerd.cluster.local"

// serve runs a gRPC server without methods and returns its address.
func serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(options...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

// seen is what a TLS server was shown.
type seen struct {
	mu     sync.Mutex
	server string
	client string
}

// guarded makes a server that asks for certificates, and trusts all or none.
func guarded(t *testing.T, trusting bool) (string, *seen) {
	t.Helper()
	own, err := leaf(Foreign, "server", time.Now())
	require.NoError(t, err)
	s := &seen{}
	config := &tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"},
		VerifyConnection: func(state tls.ConnectionState) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.server, s.client = state.ServerName, state.PeerCertificates[0].DNSNames[0]
			return nil
		},
	}
	if !trusting {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	}
	return serve(t, grpc.Creds(credentials.NewTLS(config))), s
}

func TestWhoGetsInIsTold(t *testing.T) {
	open := serve(t)
	strict, _ := guarded(t, false)
	lax, shown := guarded(t, true)
	for _, c := range []struct {
		name, way, addr string
		want            plaintext.Outcome
	}{
		{"in the clear to a server that takes it", Plain, open, plaintext.Accepted},
		{"in the clear to one that speaks TLS", Plain, strict, plaintext.Refused},
		{"a foreign certificate to one that verifies", Foreign, strict, plaintext.Refused},
		{"an expired one", Expired, strict, plaintext.Refused},
		{"a foreign certificate to one that takes any", Foreign, lax, plaintext.Accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Try(t.Context(), Options{Targets: []plaintext.Target{{Name: "stock", Addr: c.addr}}, Way: c.way, Name: name, Suffix: ".prod-app"})
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Equal(t, c.want, got[0].Got, got[0].Why)
			require.Equal(t, []string{"stock", c.addr, c.way}, []string{got[0].Target, got[0].Addr, got[0].Way})
			require.WithinDuration(t, time.Now(), got[0].At, time.Minute)
		})
	}
	shown.mu.Lock()
	defer shown.mu.Unlock()
	require.Equal(t, []string{"stock.prod-app", name}, []string{shown.server, shown.client}, "the caller's name, and whom it asked for")
}

func TestACertificateOfOnesOwnIsForeignOrExpired(t *testing.T) {
	now := time.Now()
	for way, expired := range map[string]bool{Foreign: false, Expired: true} {
		made, err := leaf(way, name, now)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(made.Certificate[0])
		require.NoError(t, err)
		require.Equal(t, []string{name}, cert.DNSNames)
		require.Equal(t, expired, now.After(cert.NotAfter))
	}
	_, err := Try(t.Context(), Options{Way: "borrowed"})
	require.ErrorContains(t, err, `way "borrowed"`)
}

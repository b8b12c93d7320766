package meshtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/meshtls"
)

const (
	web    = "web.prod-app.serviceaccount.identity.linkerd.cluster.local"
	client = "client.prod-app.serviceaccount.identity.linkerd.cluster.local"
)

// link is both ends of a connection.
func link(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	b, err = net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	a, err = l.Accept()
	require.NoError(t, err)
	for _, c := range []net.Conn{a, b} {
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// shake lets two sides shake hands and read a byte of each other.
func shake(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, err error) {
	t.Helper()
	a, b := link(t)
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		a.Close()
		done <- err
	}()
	_, readErr := c.Read(make([]byte, 1))
	b.Close()
	if err := <-done; err != nil {
		return atServer, atClient, err
	}
	return s.ConnectionState(), c.ConnectionState(), readErr
}

func TestBothSidesProveWhoTheyAreByTLS13AndP256(t *testing.T) {
	ca := meshtest.Root(t, "root")
	s, c, err := shake(t, ca.Credentials(t, web).Server(), ca.Credentials(t, client).Client(web))
	require.NoError(t, err)
	require.EqualValues(t, tls.VersionTLS13, s.Version)
	require.Equal(t, tls.CurveP256, s.CurveID)
	name, err := meshtls.PeerName(s)
	require.NoError(t, err)
	require.Equal(t, client, name)
	name, err = meshtls.PeerName(c)
	require.NoError(t, err)
	require.Equal(t, web, name)
	require.False(t, c.DidResume)
}

func TestPeersThatAreNotWhatTheyMustBeAreRefused(t *testing.T) {
	ca, other := meshtest.Root(t, "root"), meshtest.Root(t, "other")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		leaf *tls.Certificate
		says string
	}{
		"of another root": {other.Leaf(t, web, time.Hour), "unknown authority"},
		"expired":         {ca.Leaf(t, web, -time.Second), "expired"},
		"of P-384":        {ca.LeafFor(t, p384, time.Hour, web), "not ECDSA P-256"},
		"of RSA":          {ca.LeafFor(t, rsaKey, time.Hour, web), "not ECDSA P-256"},
		"of another name": {ca.Leaf(t, client, time.Hour), "not " + web},
	} {
		t.Run("a server "+name, func(t *testing.T) {
			server := ca.Credentials(t, web).Server()
			server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return tc.leaf, nil }
			cfg := ca.Credentials(t, client).Client(web)
			a, b := link(t)
			go func() { _ = tls.Server(a, server).Handshake() }()
			require.ErrorContains(t, tls.Client(b, cfg).Handshake(), tc.says)
		})
		if name == "of another name" {
			continue // which names may come in is the policy's
		}
		t.Run("a client "+name, func(t *testing.T) {
			cfg := ca.Credentials(t, client).Client(web)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tc.leaf, nil }
			_, _, err := shake(t, ca.Credentials(t, web).Server(), cfg)
			require.ErrorContains(t, err, tc.says)
		})
	}
	t.Run("a client without a certificate", func(t *testing.T) {
		cfg := ca.Credentials(t, client).Client(web)
		cfg.GetClientCertificate = nil
		_, _, err := shake(t, ca.Credentials(t, web).Server(), cfg)
		require.ErrorContains(t, err, "didn't provide a certificate")
	})
	t.Run("a client of TLS 1.2", func(t *testing.T) {
		cfg := ca.Credentials(t, client).Client(web)
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		_, _, err := shake(t, ca.Credentials(t, web).Server(), cfg)
		require.ErrorContains(t, err, "unsupported versions")
	})
	t.Run("a client of another curve", func(t *testing.T) {
		cfg := ca.Credentials(t, client).Client(web)
		cfg.CurvePreferences = []tls.CurveID{tls.X25519}
		_, _, err := shake(t, ca.Credentials(t, web).Server(), cfg)
		require.Error(t, err)
	})
}

func TestWithoutALeafNobodyIsSpokenTo(t *testing.T) {
	ca := meshtest.Root(t, "root")
	empty := meshtls.NewCredentials(web, ca.Pool())
	_, _, err := shake(t, empty.Server(), ca.Credentials(t, client).Client(web))
	require.ErrorIs(t, err, meshtls.ErrNoIdentity)
	_, err = empty.Client(web).GetClientCertificate(nil)
	require.ErrorIs(t, err, meshtls.ErrNoIdentity)
}

func TestABundleOfSeveralAnchorsTrustsTheLeavesOfEach(t *testing.T) {
	older, newer := meshtest.Root(t, "old"), meshtest.Root(t, "new")
	var bundle []byte
	for _, ca := range []*meshtest.CA{older, newer} {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})...)
	}
	both := func(name string, ca *meshtest.CA) *meshtls.Credentials {
		pool, err := meshtls.ParseAnchors(bundle)
		require.NoError(t, err)
		c := meshtls.NewCredentials(name, pool)
		require.NoError(t, c.Set(ca.Leaf(t, name, time.Hour)))
		return c
	}
	for _, of := range [][2]*meshtest.CA{{older, newer}, {newer, older}, {older, older}} {
		_, _, err := shake(t, both(web, of[0]).Server(), both(client, of[1]).Client(web))
		require.NoError(t, err)
	}
	// Once the old anchor is dropped, its leaves are nobody's.
	_, _, err := shake(t, newer.Credentials(t, web).Server(), both(client, older).Client(web))
	require.ErrorContains(t, err, "unknown authority")
}

func TestAPeerHasOneName(t *testing.T) {
	ca := meshtest.Root(t, "root")
	for _, names := range [][]string{{}, {web, client}} {
		leaf := ca.LeafFor(t, meshtest.Key(t), time.Hour, names...)
		_, err := meshtls.PeerName(tls.ConnectionState{PeerCertificates: append(tls.ConnectionState{}.PeerCertificates, leaf.Leaf)})
		require.ErrorContains(t, err, "want one")
	}
	_, err := meshtls.PeerName(tls.ConnectionState{})
	require.ErrorContains(t, err, "showed no certificate")
}

func TestAnchorsMustBeCAs(t *testing.T) {
	ca := meshtest.Root(t, "root")
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf(t, web, time.Hour).Certificate[0]})
	for text, says := range map[string]string{"": "no certificate", "nonsense": "no certificate", string(leaf): "is not a CA"} {
		_, err := meshtls.ParseAnchors([]byte(text))
		require.ErrorContains(t, err, says)
	}
}

func FuzzParseAnchors(f *testing.F) {
	ca := meshtest.Root(f, "root")
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if pool, err := meshtls.ParseAnchors(text); err == nil && pool == nil {
			t.Fatal("no pool and no error")
		}
	})
}

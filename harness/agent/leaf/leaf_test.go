package leaf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const name = "web.shop.serviceaccount.identity.linkerd.cluster.local"

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve shakes hands and then keeps silent until the client hangs up.
func serve(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, config)
			if conn.Handshake() == nil {
				_, _ = conn.Read(make([]byte, 1))
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestAServersLeafIsShown(t *testing.T) {
	for _, c := range []struct {
		name    string
		auth    tls.ClientAuthType
		max     uint16
		version string
		asked   bool
		refused string
	}{
		{"one that wants no certificate goes on", tls.NoClientCert, 0, "TLS 1.3", false, ""},
		{"one that wants a certificate refuses after it has shown its own", tls.RequireAnyClientCert, 0, "TLS 1.3", true, "certificate required"},
		{"an old one refuses within the handshake", tls.RequireAnyClientCert, tls.VersionTLS12, "TLS 1.2", true, "handshake failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := selfSigned(t)
			addr := serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: c.auth, MaxVersion: c.max})
			got, err := Read(t.Context(), addr, name)
			require.NoError(t, err)
			require.Equal(t, c.asked, got.Asked)
			require.Equal(t, c.version, got.Version)
			if c.refused == "" {
				require.Empty(t, got.Refused)
			} else {
				require.Contains(t, got.Refused, c.refused)
			}
			block, rest := pem.Decode([]byte(got.Chain))
			require.NotNil(t, block)
			require.Equal(t, cert.Certificate[0], block.Bytes)
			require.Empty(t, rest)
		})
	}
}

func TestAServerOfAnotherProtocolShowsNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write([]byte("hello\n"))
			conn.Close()
		}
	}()
	defer l.Close()
	_, err = Read(t.Context(), l.Addr().String(), name)
	require.ErrorContains(t, err, "shake hands with "+l.Addr().String())
}

func TestAClosedPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = Read(t.Context(), l.Addr().String(), name)
	require.ErrorContains(t, err, "dial "+l.Addr().String())
}

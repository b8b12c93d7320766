package admit

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshtest"
)

func TestTheWebhooksCertificateIsReadAgainWhenItIsReplaced(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) *meshtest.CA {
		ca := meshtest.Root(t, name)
		cert, key := ca.PEM(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
		return ca
	}
	c := NewCertificate(dir)
	_, err := c.Get(nil)
	require.Error(t, err)
	now := time.Now()
	c.now = func() time.Time { return now }
	get := func() []byte {
		cert, err := c.Get(&tls.ClientHelloInfo{})
		require.NoError(t, err)
		return cert.Certificate[0]
	}
	first := write("first")
	require.Equal(t, first.Cert.Raw, get())
	second := write("second")
	require.Equal(t, first.Cert.Raw, get(), "not each handshake reads the disk")
	now = now.Add(reread)
	require.Equal(t, second.Cert.Raw, get())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("half"), 0o600))
	now = now.Add(reread)
	require.Equal(t, second.Cert.Raw, get(), "while a new one is half written the old one stays")
}

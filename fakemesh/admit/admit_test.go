package admit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
	var log bytes.Buffer
	c := NewCertificate(dir, slog.New(slog.NewTextHandler(&log, nil)))
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
	require.Empty(t, log.String())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("half"), 0o600))
	for range 3 {
		now = now.Add(reread)
		require.Equal(t, second.Cert.Raw, get(), "while a new one is half written the old one stays")
	}
	told := func(what string) int { return strings.Count(log.String(), what) }
	require.Equal(t, 1, told("cannot be read"), "once for each change")
	require.Equal(t, 1, told("level=WARN"))
	require.NoError(t, os.Remove(filepath.Join(dir, "tls.key")))
	now = now.Add(reread)
	require.Equal(t, second.Cert.Raw, get())
	require.Equal(t, 2, told("cannot be read"))
	require.Equal(t, 1, told("no such file"))
	third := write("third")
	now = now.Add(reread)
	require.Equal(t, third.Cert.Raw, get())
	require.Equal(t, 2, told("level="))
}

func TestThePolicyWebhookReadsKeysInTheFormOfLinkerdsAlone(t *testing.T) {
	dir := t.TempDir()
	write := func(kind string, encode func(*ecdsa.PrivateKey) ([]byte, error)) {
		cert, text := meshtest.Root(t, "webhook").PEM(t)
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		require.NoError(t, err)
		der, err := encode(key.(*ecdsa.PrivateKey))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	get := func(c *Certificate) error {
		_, err := c.Get(nil)
		return err
	}
	write("EC PRIVATE KEY", x509.MarshalECPrivateKey)
	require.NoError(t, get(NewCertificate(dir, slog.New(slog.DiscardHandler))))
	require.ErrorContains(t, get(NewPolicyCertificate(dir, slog.New(slog.DiscardHandler))), "has to be in PKCS #8")
	write("PRIVATE KEY", func(k *ecdsa.PrivateKey) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k) })
	require.NoError(t, get(NewPolicyCertificate(dir, slog.New(slog.DiscardHandler))))
}

// Package leaf obtains a workload's certificate from the identity service and
// renews it before it ends. The private key never leaves memory.
package leaf

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// Certifier signs certificate requests; meshapi.IdentityClient is one.
type Certifier func(context.Context, *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error)

const (
	callTimeout = 10 * time.Second
	minBackoff  = 200 * time.Millisecond
	maxBackoff  = 10 * time.Second
)

// Options say for whom and from where.
type Options struct {
	Credentials *meshtls.Credentials
	Certify     Certifier
	TokenFile   string // service account token, read anew for each request
	Log         *slog.Logger
}

// Keeper keeps Credentials supplied with a valid leaf.
type Keeper struct {
	Options
	refreshes atomic.Uint64
	first     sync.Once
	ready     chan struct{}
}

// New makes a Keeper; Run sets it to work.
func New(o Options) *Keeper { return &Keeper{Options: o, ready: make(chan struct{})} }

// Ready is closed when the first leaf is there.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// Refreshes counts the leaves obtained so far.
func (k *Keeper) Refreshes() uint64 { return k.refreshes.Load() }

// Run obtains and renews until ctx ends. A failure is tried again with growing
// pauses; the leaf in use stays meanwhile.
func (k *Keeper) Run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		cert, err := k.obtain(ctx)
		if err != nil {
			k.Log.Warn("no new certificate", "error", err, "again", backoff)
			_ = pause.For(ctx, pause.Spread(backoff))
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minBackoff
		k.refreshes.Add(1)
		k.first.Do(func() { close(k.ready) })
		k.Log.Info("certificate obtained", "identity", k.Credentials.Name(), "until", cert.NotAfter.UTC())
		_ = pause.For(ctx, RenewIn(cert.NotBefore, cert.NotAfter, time.Now()))
	}
}

// RenewIn is how long to wait before a leaf of that validity is renewed: until
// 70 % of what it had left when it was obtained.
func RenewIn(notBefore, notAfter, now time.Time) time.Duration {
	from := now
	if notBefore.After(now) {
		from = notBefore
	}
	return max(notAfter.Sub(from)/10*7, minBackoff)
}

func (k *Keeper) obtain(ctx context.Context) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	token, err := os.ReadFile(k.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account token: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	name := k.Credentials.Name()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	answer, err := k.Certify(ctx, &meshapi.CertifyRequest{
		Identity: name, Token: token, CertificateSigningRequest: csr,
	})
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	parsed, err := x509.ParseCertificate(answer.GetLeaf())
	if err != nil {
		return nil, fmt.Errorf("parse the certificate: %w", err)
	}
	if !key.PublicKey.Equal(parsed.PublicKey) {
		return nil, fmt.Errorf("the certificate is for another key")
	}
	cert := &tls.Certificate{
		Certificate: append([][]byte{answer.GetLeaf()}, answer.GetIntermediates()...),
		PrivateKey:  key, Leaf: parsed,
	}
	if err := k.Credentials.Set(cert); err != nil {
		return nil, err
	}
	return parsed, nil
}

// Package knock tries to call gRPC servers as somebody: with whatever identity
// the mesh gives this pod, without one, or with a certificate that the mesh's
// authority never signed. It asks for a method that no server has, so that who
// is let in does no harm.
package knock

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/agent/plaintext"
)

// Ways to call.
const (
	// Plain sends no TLS of its own; a proxy beside this program may.
	Plain = "plain"
	// Foreign speaks TLS with a certificate of an authority made for the occasion.
	Foreign = "foreign"
	// Expired is Foreign, with a certificate that ended an hour ago.
	Expired = "expired"
)

// Options say who calls whom.
type Options struct {
	Targets []plaintext.Target
	Way     string
	// Name is what the certificate says the caller is, Suffix what makes a
	// target's name the one that its server is asked for by. Neither counts for Plain.
	Name   string
	Suffix string
}

// Result is one call.
type Result struct {
	Target string            `json:"target"`
	Addr   string            `json:"addr"`
	Way    string            `json:"way"`
	Got    plaintext.Outcome `json:"got"`
	Why    string            `json:"why"`
	At     time.Time         `json:"at"`
}

// tries is how often a call is made that gets no clear answer, and between the
// time between two: a proxy that has just come up may not know its way yet.
const (
	tries   = 3
	between = time.Second
)

// Try calls every target in turn.
func Try(ctx context.Context, o Options) ([]Result, error) {
	var options []func(target string) grpc.DialOption
	if o.Way != Plain {
		cert, err := leaf(o.Way, o.Name, time.Now())
		if err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		options = append(options, func(target string) grpc.DialOption { return dialTLS(cert, target+o.Suffix) })
	}
	all := []Result{}
	for _, t := range o.Targets {
		var dial []grpc.DialOption
		for _, option := range options {
			dial = append(dial, option(t.Name))
		}
		all = append(all, one(ctx, t, o.Way, dial))
	}
	return all, context.Cause(ctx)
}

func one(ctx context.Context, t plaintext.Target, way string, dial []grpc.DialOption) Result {
	r := Result{Target: t.Name, Addr: t.Addr, Way: way}
	for n := range tries {
		r.At = time.Now().UTC()
		r.Got, r.Why = plaintext.Knock(ctx, t.Addr, dial...)
		if r.Got != plaintext.Unknown || n == tries-1 {
			break
		}
		_ = pause.For(ctx, between)
	}
	return r
}

// dialTLS shakes hands before gRPC speaks, which would insist on a protocol that
// a mesh's proxy need not choose.
func dialTLS(cert tls.Certificate, name string) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, &tls.Config{
			ServerName: name, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"},
			InsecureSkipVerify: true, // it is this side that is to be refused
			// Shown whatever authorities the server asks for.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		})
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return conn, nil
	})
}

// leaf makes an authority that nobody trusts and a certificate of it, in the
// form of a mesh's own.
func leaf(way, name string, now time.Time) (tls.Certificate, error) {
	from, until := now.Add(-time.Hour), now.Add(time.Hour)
	switch way {
	case Foreign:
	case Expired:
		from, until = now.Add(-25*time.Hour), now.Add(-time.Hour)
	default:
		return tls.Certificate{}, fmt.Errorf("way %q is none of %s, %s, %s", way, Plain, Foreign, Expired)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root.linkerd.cluster.local"}, NotBefore: from.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root, &key.PublicKey, rootKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

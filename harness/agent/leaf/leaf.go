// Package leaf shakes hands with a TLS server and tells what certificate it
// showed. It has none itself, so a server that asks for one hangs up; by then
// it has shown its own.
package leaf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Result is what one handshake showed.
type Result struct {
	Version string `json:"version"` // such as TLS 1.3
	Asked   bool   `json:"asked"`   // the server asked for a client's certificate
	// Refused is what the server said to a client without one: "" when it went
	// on, or just kept silent.
	Refused string `json:"refused,omitempty"`
	Chain   string `json:"chain"` // PEM, the leaf first
}

// settle is how long a server may take to say that it refuses.
const settle = 2 * time.Second

// Read dials host:port, asks for the server of that name, and waits whether it
// refuses a client without a certificate. The chain is not verified: who reads
// the result does that.
func Read(ctx context.Context, addr, name string) (Result, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return Result{}, fmt.Errorf("dial %s: %w", addr, err)
	}
	defer raw.Close()
	r, conn, err := shake(ctx, raw, name)
	if err != nil {
		return r, fmt.Errorf("shake hands with %s: %w", addr, err)
	}
	if r.Refused == "" {
		r.Refused, err = refusal(conn)
	}
	return r, err
}

// Shake shakes hands on a connection that is there already and returns as soon
// as the server has shown its certificate. It does not close the connection.
func Shake(ctx context.Context, raw net.Conn, name string) (Result, error) {
	r, _, err := shake(ctx, raw, name)
	if err != nil {
		return r, fmt.Errorf("shake hands with %s: %w", name, err)
	}
	return r, nil
}

// shake fails only when no certificate was shown.
func shake(ctx context.Context, raw net.Conn, name string) (Result, *tls.Conn, error) {
	var r Result
	var chain strings.Builder
	config := &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, // only looked at; nothing is sent
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			r.Asked = true
			return &tls.Certificate{}, nil
		},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			for _, der := range raw {
				if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	conn := tls.Client(raw, config)
	err := conn.HandshakeContext(ctx)
	r.Chain = chain.String()
	if err != nil && r.Chain == "" {
		return r, conn, err
	}
	r.Version = tls.VersionName(conn.ConnectionState().Version)
	if err != nil {
		r.Refused = err.Error()
	}
	return r, conn, nil
}

// refusal waits for what a TLS 1.3 server says after the client's side of the
// handshake is done.
func refusal(conn *tls.Conn) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return "", err
	}
	_, err := conn.Read(make([]byte, 1))
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		return "", nil
	case errors.Is(err, io.EOF):
		return "the connection was closed", nil
	}
	return err.Error(), nil
}

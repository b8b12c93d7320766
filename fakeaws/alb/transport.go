package alb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	dialTimeout      = 10 * time.Second // AWS's, for a connection to a target
	handshakeTimeout = 10 * time.Second
	maxIdleConns     = 256 // to one target
)

// newTransport is the pool of connections to one target, of HTTP/1.1 or of
// HTTP/2. A connection that nobody uses is kept as long as the load balancer's
// idle timeout, so a target must not close it earlier.
func newTransport(l Listener, secure bool, idle time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		DialTLSContext:      dialTLS(dialer, l),
		MaxIdleConnsPerHost: maxIdleConns,
		IdleConnTimeout:     idle,
		DisableCompression:  true, // pass bodies on as they are
		Protocols:           protocols(l == GRPC, secure),
	}
}

// handshakeError is what went wrong between connecting and speaking.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// dialTLS shakes hands with a target, whoever it is: AWS's load balancer does
// not look at its certificate.
func dialTLS(dialer *net.Dialer, l Listener) func(ctx context.Context, network, addr string) (net.Conn, error) {
	next := "http/1.1"
	if l == GRPC {
		next = "h2"
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		plain, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{next}})
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, &handshakeError{err}
		}
		if got := conn.ConnectionState().NegotiatedProtocol; l == GRPC && got != next {
			_ = conn.Close()
			return nil, &handshakeError{fmt.Errorf("the target does not speak HTTP/2, but %q", got)}
		}
		return conn, nil
	}
}

// towardsTarget sends a request through its target's own connections, and once
// only. Go's transport repeats what it takes for harmless when a kept
// connection breaks; AWS's load balancer answers 502 then, and so must this
// one. A request of which nothing was written yet may still go to another
// connection.
type towardsTarget struct{}

func (towardsTarget) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(r.Context()) // a copy: a caller's request is not ours to change
	r.GetBody = nil
	if noBody := r.Body == nil || r.Body == http.NoBody; noBody && repeatable(r.Method) {
		r.Body = io.NopCloser(strings.NewReader("")) // a body that cannot be had again
	}
	r.Header = hideIdempotency(r.Header)
	return exchangeOf(r.Context()).target.transport.Load().RoundTrip(r)
}

// repeatable methods are those that the transport repeats by itself.
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// hideIdempotency spells the headers that the transport takes as leave to
// repeat a write in another case, which means the same to the target.
func hideIdempotency(h http.Header) http.Header {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			h = h.Clone()
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
	return h
}

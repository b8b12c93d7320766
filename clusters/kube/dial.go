package kube

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	//lint:ignore SA1019 client-go hands its connections over in these types
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// Dial opens a connection to a port of a pod through the API server, as
// port-forwarding does but without a listener on this machine. TLS can be
// spoken through it to the pod itself, which the API server's HTTP proxy,
// that checks no certificate, does not offer.
func (c *Client) Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	where := fmt.Sprintf("%s/%s:%d", namespace, pod, port)
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", where, err)
	}
	url := c.Clientset.CoreV1().RESTClient().Post().
		Namespace(namespace).Resource("pods").Name(pod).SubResource("portforward").URL()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", where, err)
	}
	conn, _, err := spdy.Negotiate(upgrader, &http.Client{Transport: transport}, req, portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", where, err)
	}
	stream, err := openStreams(conn, port)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("dial %s: %w", where, err)
	}
	return stream, nil
}

// openStreams asks for the pair of streams that one forwarded connection is.
func openStreams(conn httpstream.Connection, port int) (*podConn, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	errStream, err := conn.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	// Nothing is written on the error stream from this end.
	errStream.Close()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	p := &podConn{conn: conn, data: data, failed: make(chan struct{})}
	go p.watch(errStream)
	return p, nil
}

// podConn is the data stream with the methods of a net.Conn.
type podConn struct {
	conn   httpstream.Connection
	data   httpstream.Stream
	failed chan struct{} // closed when the far end has said all it has to say of errors

	mu     sync.Mutex
	reason string
	timer  *time.Timer
}

// watch keeps what the kubelet says, such as "connection refused".
func (p *podConn) watch(errStream io.Reader) {
	said, _ := io.ReadAll(io.LimitReader(errStream, 4096))
	p.mu.Lock()
	p.reason = strings.TrimSpace(string(said))
	p.mu.Unlock()
	close(p.failed)
	if len(said) > 0 {
		p.conn.Close()
	}
}

func (p *podConn) Read(b []byte) (int, error) {
	n, err := p.data.Read(b)
	if err != nil && n == 0 {
		return 0, p.explain(err)
	}
	return n, err
}

func (p *podConn) Write(b []byte) (int, error) {
	n, err := p.data.Write(b)
	if err != nil {
		return n, p.explain(err)
	}
	return n, nil
}

// explain puts the kubelet's reason in the place of a bare end of stream. The
// reason may arrive just after the end of the data.
func (p *podConn) explain(err error) error {
	select {
	case <-p.failed:
	case <-time.After(100 * time.Millisecond):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason != "" {
		return fmt.Errorf("%s: %w", p.reason, err)
	}
	return err
}

func (p *podConn) Close() error {
	p.mu.Lock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	_ = p.data.Reset()
	return p.conn.Close()
}

// SetDeadline closes the connection when the time has come: the streams below
// know no deadlines. A zero time takes the deadline back.
func (p *podConn) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), func() { _ = p.conn.Close() })
	}
	return nil
}

func (p *podConn) SetReadDeadline(t time.Time) error  { return p.SetDeadline(t) }
func (p *podConn) SetWriteDeadline(t time.Time) error { return p.SetDeadline(t) }
func (p *podConn) LocalAddr() net.Addr                { return podAddr{} }
func (p *podConn) RemoteAddr() net.Addr               { return podAddr{} }

type podAddr struct{}

func (podAddr) Network() string { return "tcp" }
func (podAddr) String() string  { return "pod" }

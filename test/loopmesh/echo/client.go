package echo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// Protocol is one that the application speaks.
type Protocol string

// Protocols.
const (
	HTTP Protocol = "HTTP/1.1"
	GRPC Protocol = "gRPC"
	TCP  Protocol = "TCP"
	// Stream is gRPC too: a request is a stream of messages both ways.
	Stream Protocol = "gRPC stream"
)

// Dialer connects to the application.
type Dialer func(context.Context) (net.Conn, error)

// Client makes requests, over connections that it keeps.
type Client interface {
	// Call is one request; its error is all that can go wrong, an answer that is
	// not the right one too.
	Call(ctx context.Context) error
	Close()
}

// NewClient makes a client without connections.
func NewClient(p Protocol, dial Dialer) (Client, error) {
	switch p {
	case HTTP:
		return newHTTPClient(dial), nil
	case GRPC, Stream:
		return newGRPCClient(dial, p == Stream)
	case TCP:
		return &tcpClient{dial: dial, room: make(chan struct{}, maxConns)}, nil
	}
	return nil, fmt.Errorf("no such protocol: %s", p)
}

// maxConns bounds the connections of one client, as pools of clients do: what
// falls behind for a moment is not to drown in new connections. A request waits
// for one that is free.
const maxConns = 64

type httpClient struct {
	client http.Client
	body   []byte
}

func newHTTPClient(dial Dialer) *httpClient {
	return &httpClient{body: make([]byte, requestSize), client: http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, DisableCompression: true,
	}}}
}

func (c *httpClient) Call(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service/order", bytes.NewReader(c.body))
	if err != nil {
		return err
	}
	req.GetBody = nil // or a broken connection would be hidden by sending again
	return c.do(req, responseSize)
}

// do wants an answer of that many bytes.
func (c *httpClient) do(req *http.Request, size int64) error {
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || n != size {
		return fmt.Errorf("%s with %d bytes, %s", res.Status, n, res.Header.Get("L5d-Proxy-Error"))
	}
	return nil
}

func (c *httpClient) Close() { c.client.CloseIdleConnections() }

type grpcClient struct {
	conn   *grpc.ClientConn
	client testgrpc.TestServiceClient
	req    *testgrpc.SimpleRequest
	stream bool
}

func newGRPCClient(dial Dialer, stream bool) (*grpcClient, error) {
	conn, err := grpc.NewClient("passthrough:///service",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		return nil, fmt.Errorf("prepare a gRPC connection: %w", err)
	}
	return &grpcClient{conn, testgrpc.NewTestServiceClient(conn), &testgrpc.SimpleRequest{
		ResponseSize: responseSize, Payload: &testgrpc.Payload{Body: make([]byte, requestSize)},
	}, stream}, nil
}

func (c *grpcClient) Call(ctx context.Context) error {
	if c.stream {
		return c.talk(ctx)
	}
	res, err := c.client.UnaryCall(ctx, c.req)
	if err != nil {
		return err
	}
	return check(res.GetPayload())
}

var errSize = errors.New("a response of another size")

func check(p *testgrpc.Payload) error {
	if len(p.GetBody()) != responseSize {
		return errSize
	}
	return nil
}

func (c *grpcClient) Close() { c.conn.Close() }

// streamMessages are those of one stream.
const streamMessages = 20

// talk sends messages, each when the one before is answered.
func (c *grpcClient) talk(ctx context.Context) error {
	stream, err := c.client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range streamMessages {
		if err := c.message(stream); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("end the stream: %w", err)
	}
	return nil
}

// message sends one and wants its answer.
func (c *grpcClient) message(stream testgrpc.TestService_FullDuplexCallClient) error {
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: c.req.Payload}); err != nil {
		return err
	}
	res, err := stream.Recv()
	if err != nil {
		return err
	}
	return check(res.GetPayload())
}

// tcpClient uses a connection for one request at a time.
type tcpClient struct {
	dial Dialer
	room chan struct{}
	mu   sync.Mutex
	idle []net.Conn
}

func (c *tcpClient) take() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	conn := c.idle[n-1]
	c.idle = c.idle[:n-1]
	return conn
}

func (c *tcpClient) Call(ctx context.Context) error {
	select {
	case c.room <- struct{}{}:
		defer func() { <-c.room }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn := c.take()
	if conn == nil {
		var err error
		if conn, err = c.dial(ctx); err != nil {
			return err
		}
	}
	if err := exchange(ctx, conn); err != nil {
		conn.Close()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, conn)
	return nil
}

func (c *tcpClient) Close() {
	for conn := c.take(); conn != nil; conn = c.take() {
		conn.Close()
	}
}

// Once is one request by TCP on a connection of its own.
func Once(ctx context.Context, dial Dialer) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(ctx, conn)
}

var messages = sync.Pool{New: func() any { return new([responseSize]byte) }}

func exchange(ctx context.Context, conn net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	buf, _ := messages.Get().(*[responseSize]byte)
	defer messages.Put(buf)
	if _, err := conn.Write(buf[:requestSize]); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, buf[:]); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

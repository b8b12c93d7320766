// Package echo is an application of three protocols, HTTP/1.1, gRPC and TCP of
// its own, with its clients: what a mesh is measured and tried with. A request
// has 256 bytes in each, a response 1,024.
package echo

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"meshsim.dev/meshsim/fakemesh/proxy/detect"
)

// The bodies of all protocols, in bytes.
const (
	requestSize  = 256
	responseSize = 1024
)

// Server is the application, running.
type Server struct {
	web, opaque net.Listener
	http        *http.Server
	grpc        *grpc.Server
	accepting   sync.WaitGroup
	serving     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // of the opaque port
}

// Start serves HTTP/1.1 and gRPC on web, told apart by their first bytes, and
// the protocol of its own on opaque.
func Start(web, opaque net.Listener) *Server {
	s := &Server{
		web: web, opaque: opaque, grpc: grpc.NewServer(),
		http:  &http.Server{Handler: http.HandlerFunc(serveHTTP), ReadHeaderTimeout: time.Minute},
		conns: map[net.Conn]struct{}{},
	}
	testgrpc.RegisterTestServiceServer(s.grpc, service{})
	h1, h2 := newHandover(web.Addr()), newHandover(web.Addr())
	s.serving.Go(func() { _ = s.http.Serve(h1) })
	s.serving.Go(func() { _ = s.grpc.Serve(h2) })
	s.accepting.Go(func() { s.accept(web, func(c net.Conn) { sort(c, h1, h2) }) })
	s.accepting.Go(func() { s.accept(opaque, s.serveOpaque) })
	return s
}

func (s *Server) accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.serving.Go(func() { handle(c) })
	}
}

func sort(c net.Conn, h1, h2 *handover) {
	conn := detect.NewConn(c)
	switch p, _, err := conn.Detect(time.Minute); {
	case err != nil:
		c.Close()
	case p == detect.HTTP2:
		h2.give(conn)
	default:
		h1.give(conn)
	}
}

// Shutdown takes nothing new and lets requests and opaque connections end
// until ctx does; what is left then is cut off, and an error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.web.Close()
	s.opaque.Close()
	s.accepting.Wait()
	ended := make(chan struct{})
	var errHTTP error
	go func() {
		defer close(ended)
		s.grpc.GracefulStop()
		errHTTP = s.http.Shutdown(ctx)
		s.serving.Wait()
	}()
	select {
	case <-ended:
		return errHTTP
	case <-ctx.Done():
	}
	s.http.Close()
	s.grpc.Stop()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	<-ended
	return ctx.Err()
}

var response = make([]byte, responseSize)

func serveHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if r.URL.RawQuery != "" {
		writeBulk(w, r)
		return
	}
	_, _ = w.Write(response)
}

type service struct {
	testgrpc.UnimplementedTestServiceServer
}

// UnaryCall answers with the body of all protocols.
func (service) UnaryCall(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: response}}, nil
}

// FullDuplexCall answers each message by one, until the client has no more.
func (service) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: response}}); err != nil {
			return err
		}
	}
}

func (s *Server) serveOpaque(c net.Conn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	buf := make([]byte, requestSize)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}

// handover is a listener that is given its connections.
type handover struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.addr }

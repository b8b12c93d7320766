package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// Bulk moves large bodies, one request for each.
type Bulk interface {
	// Send is a request of that many bytes, Receive a response.
	Send(ctx context.Context, bytes int) error
	Receive(ctx context.Context, bytes int) error
	Close()
}

// NewBulk makes a Bulk of HTTP/1.1, or of gRPC: a stream of messages by HTTP/2.
func NewBulk(p Protocol, dial Dialer) (Bulk, error) {
	switch p {
	case HTTP:
		return newHTTPClient(dial), nil
	case GRPC:
		return newGRPCClient(dial, false)
	}
	return nil, fmt.Errorf("no large bodies by %s", p)
}

// piece is what large bodies are written by.
var piece = make([]byte, 64<<10)

// zeros is a body of as many bytes as are left.
type zeros struct{ left int }

// Read implements io.Reader.
func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

// bytesParam asks for a response of that size.
const bytesParam = "bytes"

func writeBulk(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get(bytesParam))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for ; n > 0; n -= len(piece) {
		if _, err := w.Write(piece[:min(n, len(piece))]); err != nil {
			return
		}
	}
}

// Send implements Bulk.
func (c *httpClient) Send(ctx context.Context, bytes int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service/bulk", &zeros{bytes})
	if err != nil {
		return err
	}
	req.ContentLength = int64(bytes)
	return c.do(req, responseSize)
}

// Receive implements Bulk.
func (c *httpClient) Receive(ctx context.Context, bytes int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://service/bulk?%s=%d", bytesParam, bytes), nil)
	if err != nil {
		return err
	}
	return c.do(req, int64(bytes))
}

// Send implements Bulk.
func (c *grpcClient) Send(ctx context.Context, bytes int) error {
	stream, err := c.client.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for left := bytes; left > 0; left -= len(piece) {
		err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: piece[:min(left, len(piece))]}})
		if err != nil {
			return err
		}
	}
	res, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if int(res.GetAggregatedPayloadSize()) != bytes {
		return errSize
	}
	return nil
}

// Receive implements Bulk.
func (c *grpcClient) Receive(ctx context.Context, bytes int) error {
	req := &testgrpc.StreamingOutputCallRequest{}
	for left := bytes; left > 0; left -= len(piece) {
		req.ResponseParameters = append(req.ResponseParameters, &testgrpc.ResponseParameters{Size: int32(min(left, len(piece)))})
	}
	stream, err := c.client.StreamingOutputCall(ctx, req)
	if err != nil {
		return err
	}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		bytes -= len(res.GetPayload().GetBody())
	}
	if bytes != 0 {
		return errSize
	}
	return nil
}

// StreamingInputCall takes all that comes and tells how much it was.
func (service) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(req.GetPayload().GetBody())
	}
}

// StreamingOutputCall sends messages of the sizes that are asked for.
func (service) StreamingOutputCall(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range req.GetResponseParameters() {
		if p.GetSize() < 0 || int(p.GetSize()) > len(piece) {
			return errSize
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: piece[:p.GetSize()]}}); err != nil {
			return err
		}
	}
	return nil
}

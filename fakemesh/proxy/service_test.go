package proxy

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// testService is what the pods of the tests serve.
type testService struct {
	testgrpc.UnimplementedTestServiceServer
	p *pod
}

// UnaryCall answers with the pod's address, after a moment, in a trailer too.
func (s *testService) UnaryCall(ctx context.Context, req *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	s.p.served.Add(1)
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-shop-pod", s.p.ip)); err != nil {
		return nil, err
	}
	if st := req.GetResponseStatus(); st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		s.p.patience.Store(int64(time.Until(deadline)))
	}
	if wait := md.Get("x-wait"); len(wait) > 0 {
		d, err := time.ParseDuration(wait[0])
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
			s.p.ended.Add(1)
			return nil, ctx.Err()
		}
	}
	id := ""
	if who := md.Get("l5d-client-id"); len(who) > 0 {
		id = who[0]
	}
	return &testgrpc.SimpleResponse{
		ServerId: s.p.ip, Username: id,
		Payload: &testgrpc.Payload{Body: make([]byte, req.GetResponseSize())},
	}, nil
}

// StreamingOutputCall answers with messages of the sizes asked for, then ends
// as its metadata x-end says: with an error, or not at all.
func (s *testService) StreamingOutputCall(req *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range req.GetResponseParameters() {
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-sent", fmt.Sprint(len(req.GetResponseParameters()))))
	md, _ := metadata.FromIncomingContext(stream.Context())
	switch end := md.Get("x-end"); {
	case len(end) == 0:
		return nil
	case end[0] == "never":
		<-stream.Context().Done()
		s.p.ended.Add(1)
		return stream.Context().Err()
	default:
		return status.Error(codes.DataLoss, end[0])
	}
}

// StreamingInputCall takes messages until there are no more, or until it has
// seen enough of them, and tells how many bytes they had.
func (s *testService) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	s.p.served.Add(1)
	md, _ := metadata.FromIncomingContext(stream.Context())
	sum := 0
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			s.p.ended.Add(1)
			return err
		}
		sum += len(req.GetPayload().GetBody())
		if enough := md.Get("x-enough"); len(enough) > 0 {
			return status.Error(codes.ResourceExhausted, enough[0])
		}
	}
}

// FullDuplexCall answers each message by one of the size it asks for, and tells
// by a trailer how many there were.
func (s *testService) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	n := 0
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			stream.SetTrailer(metadata.Pairs("x-messages", fmt.Sprint(n)))
			return nil
		}
		if err != nil {
			return err
		}
		n++
		size := 0
		if len(req.GetResponseParameters()) > 0 {
			size = int(req.GetResponseParameters()[0].GetSize())
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, size)}}); err != nil {
			return err
		}
	}
}

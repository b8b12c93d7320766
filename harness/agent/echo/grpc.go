package echo

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The gRPC methods. They need no generated code: both sides know them on
// well-known messages.
const (
	service = "meshsim.agent.Echo"
	// Who takes a BytesValue and answers with the server's name, which the
	// trailer TrailerName repeats.
	Who = "/" + service + "/Who"
	// Fail takes an Int32Value and answers with that status code.
	Fail = "/" + service + "/Fail"
	// Watch sends the server's name at once and then every WatchEvery.
	Watch = "/" + service + "/Watch"

	TrailerName = "x-echo-name"
	WatchEvery  = 250 * time.Millisecond
)

// WatchDesc describes Watch to a client.
var WatchDesc = grpc.StreamDesc{StreamName: "Watch", ServerStreams: true}

func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Who", Handler: who}, {MethodName: "Fail", Handler: fail}},
		Streams:     []grpc.StreamDesc{{StreamName: "Watch", Handler: watch, ServerStreams: true}},
	}
}

// named is the service's implementation: a name.
type named string

func who(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	if err := decode(new(wrapperspb.BytesValue)); err != nil {
		return nil, err
	}
	name := string(server.(named))
	if err := grpc.SetTrailer(ctx, metadata.Pairs(TrailerName, name)); err != nil {
		return nil, err
	}
	return wrapperspb.String(name), nil
}

func fail(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.Int32Value)
	if err := decode(in); err != nil {
		return nil, err
	}
	if in.Value == 0 {
		return wrapperspb.String(""), nil
	}
	return nil, status.Error(codes.Code(in.Value), "as asked")
}

func watch(server any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
		return err
	}
	tick := time.NewTicker(WatchEvery)
	defer tick.Stop()
	for {
		if err := stream.SendMsg(wrapperspb.String(string(server.(named)))); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-tick.C:
		}
	}
}

func serveGRPC(ctx context.Context, l net.Listener, name string) error {
	server := grpc.NewServer()
	server.RegisterService(description(), named(name))
	healthpb.RegisterHealthServer(server, health.NewServer())
	stop := context.AfterFunc(ctx, func() {
		// A stream that is watched never ends by itself.
		limit := time.AfterFunc(drainWithin, server.Stop)
		defer limit.Stop()
		server.GracefulStop()
	})
	defer stop()
	if err := server.Serve(l); err != nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

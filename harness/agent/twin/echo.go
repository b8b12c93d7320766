// Package twin measures what the mesh adds to one call, or to a whole request of
// a customer: the same echo server, or a copy of one of the shop's paths, is
// called with and without proxies, in turns, at the same time, on the same nodes.
package twin

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const echoMethod = "/meshsim.agent.Twin/Echo"

// echoService answers every call with its own bytes. It needs no generated
// code: both sides know one method on a well-known message.
var echoService = grpc.ServiceDesc{
	ServiceName: "meshsim.agent.Twin",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return in, nil
		},
	}},
}

// Serve answers echo calls on listen until ctx ends.
func Serve(ctx context.Context, listen string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	return serve(ctx, l)
}

func serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer()
	server.RegisterService(&echoService, nil)
	healthpb.RegisterHealthServer(server, health.NewServer())
	stop := context.AfterFunc(ctx, server.GracefulStop)
	defer stop()
	if err := server.Serve(l); err != nil {
		return fmt.Errorf("serve echo: %w", err)
	}
	return nil
}

package call

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshsim.dev/meshsim/harness/agent/echo"
)

type grpcCaller struct {
	o      Options
	host   string
	code   int // the code to ask for, -1 for none
	shared *grpc.ClientConn
}

func newGRPC(o Options, u *url.URL) (*grpcCaller, error) {
	c := &grpcCaller{o: o, host: u.Host, code: -1}
	if path := strings.Trim(u.Path, "/"); path != "" {
		code, err := strconv.Atoi(path)
		if err != nil || code < 0 || code > 16 {
			return nil, fmt.Errorf("target %q: %q is no gRPC code", o.Target, path)
		}
		c.code = code
	}
	if o.Fresh {
		return c, nil
	}
	var err error
	c.shared, err = c.dial()
	return c, err
}

func (c *grpcCaller) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(c.host, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (c *grpcCaller) close() {
	if c.shared != nil {
		_ = c.shared.Close()
	}
}

func (c *grpcCaller) call(ctx context.Context, into *Result) error {
	conn := c.shared
	if conn == nil {
		own, err := c.dial()
		if err != nil {
			return err
		}
		defer own.Close()
		conn = own
	}
	if len(c.o.Headers) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, metadata.New(c.o.Headers))
	}
	var err error
	if c.o.Hold > 0 {
		err = c.watch(ctx, conn, into)
	} else {
		err = c.unary(ctx, conn, into)
	}
	into.Code = status.Code(err).String()
	return err
}

func (c *grpcCaller) unary(ctx context.Context, conn *grpc.ClientConn, into *Result) error {
	var name wrapperspb.StringValue
	var trailer metadata.MD
	var err error
	if c.code >= 0 {
		err = conn.Invoke(ctx, echo.Fail, wrapperspb.Int32(int32(c.code)), &name, grpc.Trailer(&trailer))
	} else {
		err = conn.Invoke(ctx, echo.Who, wrapperspb.Bytes(make([]byte, c.o.Bytes)), &name, grpc.Trailer(&trailer))
	}
	into.Server = name.Value
	if c.o.Show {
		into.Received = trailer
	}
	return err
}

// watch keeps one stream open. Its last message says who is at the other end:
// a stream never changes servers.
func (c *grpcCaller) watch(ctx context.Context, conn *grpc.ClientConn, into *Result) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	until := time.Now().Add(c.o.Hold)
	stream, err := conn.NewStream(ctx, &echo.WatchDesc, echo.Watch)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(wrapperspb.Bytes(nil)); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for time.Now().Before(until) {
		var name wrapperspb.StringValue
		if err := stream.RecvMsg(&name); err != nil {
			return err
		}
		if into.Server != "" && into.Server != name.Value {
			return status.Errorf(codes.Internal, "the stream changed from %s to %s", into.Server, name.Value)
		}
		into.Server = name.Value
		into.Pings++
	}
	return nil
}

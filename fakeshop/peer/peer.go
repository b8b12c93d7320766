// Package peer makes the connections on which the services call each other.
// A call is sent once: gRPC itself repeats only what never reached a server,
// so a failure between services is seen and not smoothed over.
package peer

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// CallTimeout is the deadline of one hop.
const CallTimeout = 2 * time.Second

// Dialer knows where the services are.
type Dialer struct {
	// Namespace they live in: a service is found as dns:///<service>.<Namespace>:9090.
	Namespace string
	// Targets overrides the place of single services (gRPC target syntax).
	Targets map[string]string
	// FailFast makes a call fail at once while its connection is down, instead
	// of waiting for a new one until the call's deadline.
	FailFast bool
	// Options are added to every connection, for tests.
	Options []grpc.DialOption
}

// Dial prepares the connection to a service; it connects with the first call.
func (d Dialer) Dial(service string) (*grpc.ClientConn, error) {
	target := d.Targets[service]
	if target == "" {
		target = fmt.Sprintf("dns:///%s.%s:9090", service, d.Namespace)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), // encrypting is the mesh's work
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(!d.FailFast)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithReadBufferSize(8 << 10),
		grpc.WithWriteBufferSize(8 << 10),
		grpc.WithUnaryInterceptor(interceptor(service)),
	}
	conn, err := grpc.NewClient(target, append(opts, d.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to %s: %w", service, err)
	}
	return conn, nil
}

// interceptor gives each call its deadline and each error its hop.
func interceptor(service string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithTimeout(ctx, CallTimeout)
		defer cancel()
		var trailer metadata.MD
		err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Trailer(&trailer))...)
		if err == nil {
			return nil
		}
		return explain(service, err, trailer)
	}
}

// explain turns a call's status and trailer into an error that says where.
func explain(service string, err error, trailer metadata.MD) error {
	out := fail.From(err)
	out.Reason = first(trailer, shopapi.ReasonHeader)
	if !fail.IsFailure(out.Code) {
		return out
	}
	out.Hops = fail.SplitChain(first(trailer, shopapi.HopHeader))
	if len(out.Hops) == 0 {
		out.Hops = []string{service}
	}
	out.Pod = first(trailer, shopapi.FailedPodHeader)
	if out.Pod == "" {
		out.Pod = first(trailer, shopapi.PodHeader)
	}
	out.Message = "calling " + service + ": " + out.Message
	return out
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

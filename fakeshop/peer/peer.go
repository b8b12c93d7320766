// Package peer makes the connections on which the services call each other.
package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/fakeshop/tracing"
)

// CallTimeout is the longest that one hop may take.
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
	// Retries is how often a call is sent again whose connection broke before
	// an answer came. Only methods that their proto declares idempotent are,
	// and only while few calls fail: see retryBudget.
	Retries int
	// Options are added to every connection, for tests.
	Options []grpc.DialOption
}

// Dial prepares the connection to a service; it connects with the first call.
func (d Dialer) Dial(service string) (*grpc.ClientConn, error) {
	target := d.Targets[service]
	if target == "" {
		target = fmt.Sprintf("dns:///%s.%s:9090", service, d.Namespace)
	}
	config, err := serviceConfig(d.Retries)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), // encrypting is the mesh's work
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(config),
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

// retryBudget is gRPC's own: each failed call takes a token of ten, each good
// one gives a tenth back, and with fewer than half of them nothing is sent
// twice. So a service in trouble gets no more than a tenth on top.
const retryBudget = `{"maxTokens": 10, "tokenRatio": 0.1}`

// serviceConfig tells gRPC what to send again.
func serviceConfig(retries int) (string, error) {
	if retries <= 0 {
		return "{}", nil
	}
	methods, err := json.Marshal(idempotentMethods())
	if err != nil {
		return "", fmt.Errorf("writing gRPC's service config: %w", err)
	}
	return fmt.Sprintf(`{"retryThrottling": %s, "methodConfig": [{"name": %s, "retryPolicy": {"maxAttempts": %d,
		"initialBackoff": "0.02s", "maxBackoff": "0.2s", "backoffMultiplier": 3, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`,
		retryBudget, methods, 1+retries), nil
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

// idempotentMethods are those of the shop whose protos say so.
func idempotentMethods() (names []methodName) {
	protoregistry.GlobalFiles.RangeFilesByPackage("shop.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				options, ok := m.Options().(*descriptorpb.MethodOptions)
				if ok && options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
					names = append(names, methodName{string(m.Parent().FullName()), string(m.Name())})
				}
			}
		}
		return true
	})
	return names
}

// interceptor gives each call its deadline and its trace, each error its hop,
// and the request's record the way that the call took.
func interceptor(service string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		way := hops.From(ctx)
		ctx, cancel := context.WithTimeout(tracing.ToGRPC(ctx), CallTimeout)
		defer cancel()
		var trailer metadata.MD
		began := time.Now()
		err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Trailer(&trailer))...)
		call := hops.Call{Service: service, Began: began, Took: time.Since(began), Code: status.Code(err), Answer: first(trailer, shopapi.HopsHeader),
			Attempts: attempts(err, trailer)}
		way.Add(call)
		if err == nil {
			return nil
		}
		return explain(service, err, trailer)
	}
}

// spent is gRPC's word for a call that it has sent several times in vain.
var spent = regexp.MustCompile(`^max retries exhausted: failed after (\d+) attempts`)

// attempts is how often a call was sent: one that was answered in the end is
// told by who answered, for gRPC says it to servers alone.
func attempts(err error, trailer metadata.MD) int {
	n := first(trailer, shopapi.AttemptHeader)
	if err != nil {
		if found := spent.FindStringSubmatch(status.Convert(err).Message()); found != nil {
			n = found[1]
		}
	}
	if count, err := strconv.Atoi(n); err == nil {
		return count
	}
	return 1
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

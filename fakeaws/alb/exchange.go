package alb

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errIdle ends a request that nothing was heard of for the idle timeout.
var errIdle = errors.New("nothing was sent or received for the idle timeout")

// exchange is one request under way to a target; it travels in its context.
type exchange struct {
	group  *group
	spec   *groupSpec
	target *target
	entry  *entry

	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer
	forget func() bool // of the target's end
	ended  atomic.Bool // its connection may be another request's by now

	connected atomic.Int64 // nanoseconds since the entry was made; 0: not yet
	whole     atomic.Bool  // the client has sent all of its request

	mu     sync.Mutex
	broken error // why reading from the target ended early
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// begin binds r, whose answer is w, to a target. end must follow.
func begin(w http.ResponseWriter, r *http.Request, g *group, t *target, e *entry) (*exchange, *http.Request) {
	x := &exchange{group: g, spec: g.spec.Load(), target: t, entry: e}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	x.cancel = cancel
	x.ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		x.connected.Store(max(1, int64(time.Since(e.created))))
	}})
	x.idle = time.AfterFunc(x.spec.Idle, func() { x.stop(w, errIdle) })
	x.forget = context.AfterFunc(t.over, func() { x.stop(w, context.Cause(t.over)) })
	r = r.WithContext(x.ctx)
	x.whole.Store(r.ContentLength == 0)
	r.Body = &requestBody{r.Body, x}
	return x, r
}

func (x *exchange) end() {
	x.ended.Store(true)
	x.idle.Stop()
	x.forget()
	x.cancel(nil)
}

// touch says that something was sent or received.
func (x *exchange) touch() { x.idle.Reset(x.spec.Idle) }

// stop ends the exchange early. The transport returns only when nobody reads
// the client's request any more.
func (x *exchange) stop(w http.ResponseWriter, cause error) {
	if x.ended.Load() {
		return // something was sent or received at the very end
	}
	x.cancel(cause)
	if !x.whole.Load() {
		giveUpReading(w, 0)
	}
}

// giveUpReading lets the reading of the client's request fail after a while.
func giveUpReading(w http.ResponseWriter, after time.Duration) {
	// a connection that takes no deadline is gone already
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(after))
}

// sentAfter is how long after it came in the request went to its target;
// negative when it did not.
func (x *exchange) sentAfter() time.Duration {
	if d := x.connected.Load(); d > 0 {
		return time.Duration(d)
	}
	return -1
}

// breakage is why the exchange went wrong, nil when it did not.
func (x *exchange) breakage() error {
	if err := context.Cause(x.ctx); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.broken
}

// statusOf says which of AWS's codes stands for err, the failure to get an
// answer: 504 when the target was silent, 502 when it broke off, spoke
// nonsense, or used up its deregistration delay.
func (x *exchange) statusOf(err error) int {
	switch cause := context.Cause(x.ctx); {
	case cause == nil:
	case errors.Is(cause, errDeregistered):
		return http.StatusBadGateway
	case errors.Is(cause, errIdle) && !x.whole.Load():
		return http.StatusRequestTimeout
	case errors.Is(cause, errIdle):
		return http.StatusGatewayTimeout
	default:
		return statusClientGone
	}
	if _, ok := errors.AsType[*handshakeError](err); ok {
		return http.StatusBadGateway
	}
	// a machine on the same network that is gone does not answer ARP, and the
	// kernel calls it unreachable; in a VPC its packets are lost and time out
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// requestBody is what a client sends.
type requestBody struct {
	io.ReadCloser
	x *exchange
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.entry.received.Add(int64(n))
	if err == io.EOF {
		b.x.whole.Store(true)
	}
	if n > 0 {
		b.x.touch()
	}
	return n, err
}

// answerBody is what a target sends.
type answerBody struct {
	io.ReadCloser
	x *exchange
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.x.touch()
	}
	if err != nil && err != io.EOF {
		b.x.mu.Lock()
		b.x.broken = err
		b.x.mu.Unlock()
	}
	return n, err
}

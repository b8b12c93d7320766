package alb

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// endpoint is what is to be a target. Two equal endpoints are the same target.
type endpoint struct {
	IP        string
	Port      int32
	CheckPort int32  // 0: Port
	Pod       string // name; "" for a node
	Node      string // name
	Zone      string // "" where it is not known
	Unusable  string // why requests cannot get there; "" when they can
}

// health of a target, as AWS calls it.
type health int32

const (
	initial health = iota
	healthy
	unhealthy
	draining
	unused
)

func (h health) String() string {
	return [...]string{"initial", "healthy", "unhealthy", "draining", "unused"}[h]
}

// reason is AWS's code and description of why a target is not healthy.
type reason struct{ code, description string }

var (
	reasonRegistering   = reason{"Elb.RegistrationInProgress", "Target registration is in progress"}
	reasonChecking      = reason{"Elb.InitialHealthChecking", "Initial health checks in progress"}
	reasonFailed        = reason{"Target.FailedHealthChecks", "Health checks failed"}
	reasonTimeout       = reason{"Target.Timeout", "Request timed out"}
	reasonDeregistering = reason{"Target.DeregistrationInProgress", "Target deregistration is in progress"}
	reasonNotRegistered = reason{"Target.NotRegistered", "Target is not registered to the target group"}
	reasonUnusable      = reason{"Target.IpUnusable", "The IP address cannot be used as a target"}
)

// reasonOf names why a target is in a state, given its last check.
func reasonOf(is health, err error) reason {
	switch {
	case is == healthy:
		return reason{}
	case is == initial:
		return reasonChecking
	}
	if mismatch, ok := errors.AsType[*mismatchError](err); ok {
		return reason{"Target.ResponseCodeMismatch", "Health checks failed with these codes: [" + strconv.Itoa(mismatch.got) + "]"}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return reasonTimeout
	}
	return reasonFailed
}

// errDeregistered ends requests whose target's deregistration delay is over.
var errDeregistered = errors.New("the target's deregistration delay is over")

// target is one registered endpoint. Unmarked fields are its group's to lock.
type target struct {
	endpoint
	address   string                         // host:port that requests go to
	transport atomic.Pointer[http.Transport] // its own pool of connections
	busy      atomic.Int64                   // requests under way
	over      context.Context                // ends what outlives the deregistration delay
	cut       context.CancelCauseFunc

	state     health
	why       reason
	detail    string      // of the last failed check
	slowSince time.Time   // when slow start began; zero: not in it
	credit    float64     // share of a turn saved up in slow start
	leaving   *time.Timer // set while the news of its end spreads
	drained   func() bool // stops the deregistration delay
	stop      func()      // ends its health checks; nil: it has none
}

// newTarget registers e; the caller holds mu.
func (g *group) newTarget(ctx context.Context, e endpoint) *target {
	spec := g.spec.Load()
	t := &target{endpoint: e, address: net.JoinHostPort(e.IP, strconv.Itoa(int(e.Port))), state: initial, why: reasonRegistering}
	t.over, t.cut = context.WithCancelCause(context.WithoutCancel(ctx))
	t.transport.Store(newTransport(spec.Listener, spec.TLS, spec.Idle))
	if e.Unusable != "" {
		t.state, t.why, t.detail = unused, reasonUnusable, e.Unusable
		g.log.Warn("target cannot be used", "group", spec.Key, "target", t.address, "pod", e.Pod, "node", e.Node, "reason", e.Unusable)
		return t
	}
	g.startChecks(ctx, t, g.propagation)
	g.log.Info("target registered", "group", spec.Key, "target", t.address, "pod", e.Pod, "node", e.Node, "zone", e.Zone)
	return t
}

func (t *target) set(h health, why reason) {
	t.state, t.why = h, why
}

func (t *target) checking() bool { return t.stop != nil }

func (t *target) stopChecks() {
	if t.stop != nil {
		t.stop()
		t.stop = nil
	}
}

// renewTransport lets new requests have new connections.
func (t *target) renewTransport(spec groupSpec) {
	old := t.transport.Swap(newTransport(spec.Listener, spec.TLS, spec.Idle))
	old.CloseIdleConnections()
}

// settle drops the connections that a deregistered target needs no more.
func (t *target) settle() { t.transport.Load().CloseIdleConnections() }

// share is the part of its full share that the target gets: less than 1 in
// slow start, where it grows with time.
func (t *target) share(now time.Time, slowStart time.Duration) float64 {
	if t.slowSince.IsZero() || slowStart <= 0 {
		return 1
	}
	return min(1, float64(now.Sub(t.slowSince))/float64(slowStart))
}

// Package metrics keeps a proxy's counters under Linkerd's names and labels.
// Series are bounded in number, and idle ones are dropped.
package metrics

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// Values of the tls label and of no_tls_reason.
const (
	TLSTrue       = "true"
	TLSNoIdentity = "no_identity"
	TLSOpaque     = "opaque"
	TLSDisabled   = "disabled"

	ReasonNotFromRemote = "no_tls_from_remote"
	ReasonLoopback      = "loopback"
	ReasonNotProvided   = "not_provided_by_service_discovery"
)

// Directions.
const (
	Inbound  = "inbound"
	Outbound = "outbound"
)

const (
	idleAfter = 10 * time.Minute
	// maxSeries bounds each table; what comes after shares one series.
	maxSeries = 2000
)

// Peer is the other side of a connection, as far as metrics tell.
type Peer struct {
	Direction   string
	TargetIP    string
	TargetPort  uint16
	TLS         string
	NoTLSReason string
	ClientID    string // inbound
	ServerID    string // outbound
	Dst         Dst    // outbound
	Srv         policy.Ref
	Authz       policy.Ref
}

// Dst is where outbound traffic goes.
type Dst struct {
	Namespace, Service, Pod, ServiceAccount, OwnerKind, OwnerName string
}

// Flow is HTTP traffic whose labels are all the same.
type Flow struct {
	Peer
	Authority string
	Route     policy.Ref
}

// Response is how a request ended.
type Response struct {
	Status     int
	GRPCStatus string // "" when it is no gRPC
	Error      string // "" when none was made up by the proxy
}

// Failure says whether the response counts as one in classification.
func (r Response) Failure() bool {
	switch r.GRPCStatus {
	case "":
		return r.Status >= 500 || r.Error != ""
	case "2", "4", "7", "13", "14", "15":
		return true
	default:
		return false
	}
}

// bucketsMs are the upper bounds of response_latency_ms.
var bucketsMs = [...]float64{
	1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
	1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
}

type histogram struct {
	buckets [len(bucketsMs) + 1]uint64
	sum     float64
}

func (h *histogram) observe(ms float64) {
	i := 0
	for i < len(bucketsMs) && ms > bucketsMs[i] {
		i++
	}
	h.buckets[i]++
	h.sum += ms
}

// HTTP counts one Flow.
type HTTP struct {
	used      atomic.Int64 // unix seconds
	requests  atomic.Uint64
	mu        sync.Mutex
	responses map[Response]uint64
	latency   map[int]*histogram // by status
}

// TCP counts one Peer's connections.
type TCP struct {
	used    atomic.Int64
	opened  atomic.Uint64
	open    atomic.Int64
	Read    atomic.Uint64 // bytes from the peer
	Written atomic.Uint64 // bytes to the peer
	mu      sync.Mutex
	closed  map[string]uint64 // by errno, "" for a clean end
}

// Count is a plain counter.
type Count struct {
	used atomic.Int64
	n    atomic.Uint64
}

// Inc adds one.
func (c *Count) Inc() { c.n.Add(1) }

// authzKey is a policy decision with its labels.
type authzKey struct {
	name  string
	peer  Peer
	route policy.Ref
}

type errorKey struct {
	direction, kind string
}

// Registry is everything one proxy counts.
type Registry struct {
	http   table[Flow, HTTP]
	tcp    table[tcpKey, TCP]
	authz  table[authzKey, Count]
	errors table[errorKey, Count]
	routes table[RouteBackend, Count]
	info   Info

	authMu      sync.RWMutex
	authorities map[string]struct{}

	gaugesMu sync.Mutex
	gauges   map[Balancer]*[2]atomic.Int64 // ready, pending
}

type tcpKey struct {
	Peer
	side string // src or dst
}

// Balancer names a set of endpoints.
type Balancer struct{ Namespace, Service, Addr string }

// Info is what the registry asks when it is read.
type Info struct {
	Version   string
	Started   time.Time
	Refreshes func() uint64
	NotAfter  func() time.Time // zero while there is no certificate
	now       func() time.Time
}

// New makes an empty registry.
func New(info Info) *Registry {
	if info.now == nil {
		info.now = time.Now
	}
	return &Registry{info: info, gauges: map[Balancer]*[2]atomic.Int64{}, authorities: map[string]struct{}{}}
}

type entry interface{ touched() *atomic.Int64 }

func (h *HTTP) touched() *atomic.Int64  { return &h.used }
func (t *TCP) touched() *atomic.Int64   { return &t.used }
func (c *Count) touched() *atomic.Int64 { return &c.used }

// table holds the series of one kind.
type table[K comparable, V any] struct {
	mu sync.RWMutex
	m  map[K]*V
}

func (t *table[K, V]) get(key, overflow K, now int64) *V {
	t.mu.RLock()
	v := t.m[key]
	t.mu.RUnlock()
	if v == nil {
		v = t.add(key, overflow)
	}
	any(v).(entry).touched().Store(now)
	return v
}

func (t *table[K, V]) add(key, overflow K) *V {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[K]*V{}
	}
	if _, known := t.m[key]; !known && len(t.m) >= maxSeries {
		key = overflow
	}
	v := t.m[key]
	if v == nil {
		v = new(V)
		t.m[key] = v
	}
	return v
}

// each calls f for the live series and drops those that keep says are over.
func (t *table[K, V]) each(before int64, busy func(*V) bool, f func(K, *V)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, v := range t.m {
		if any(v).(entry).touched().Load() < before && !busy(v) {
			delete(t.m, k)
			continue
		}
		f(k, v)
	}
}

func (r *Registry) seconds() int64 { return r.info.now().Unix() }

// HTTP is the counter of a flow. It is asked anew for each request, so that a
// flow which was idle for long comes back.
func (r *Registry) HTTP(f Flow) *HTTP {
	return r.http.get(f, Flow{Peer: Peer{Direction: f.Direction}}, r.seconds())
}

// Request counts a request as it begins.
func (h *HTTP) Request() { h.requests.Add(1) }

// Response counts a request's end, latency after its begin.
func (h *HTTP) Response(res Response, latency time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.responses == nil {
		h.responses = map[Response]uint64{}
		h.latency = map[int]*histogram{}
	}
	h.responses[res]++
	hist := h.latency[res.Status]
	if hist == nil {
		hist = &histogram{}
		h.latency[res.Status] = hist
	}
	hist.observe(float64(latency) / float64(time.Millisecond))
}

// TCP is the counter of connections with one peer; side is src or dst.
func (r *Registry) TCP(p Peer, side string) *TCP {
	return r.tcp.get(tcpKey{p, side}, tcpKey{Peer{Direction: p.Direction}, side}, r.seconds())
}

// Open counts a connection as it begins.
func (t *TCP) Open() {
	t.opened.Add(1)
	t.open.Add(1)
}

// Close counts a connection's end; errno is "" when it was clean.
func (t *TCP) Close(errno string) {
	t.open.Add(-1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = map[string]uint64{}
	}
	t.closed[errno]++
}

// Authz is a counter of policy decisions; name is one of the contract, such as
// inbound_http_authz_deny_total.
func (r *Registry) Authz(name string, p Peer, route policy.Ref) *Count {
	return r.authz.get(authzKey{name, p, route}, authzKey{name: name, peer: Peer{Direction: Inbound}}, r.seconds())
}

// Error is the counter of errors of one kind that the proxy made up.
func (r *Registry) Error(direction, kind string) *Count {
	k := errorKey{direction, kind}
	return r.errors.get(k, k, r.seconds())
}

// Endpoints sets how many endpoints a balancer has; all zero removes it.
func (r *Registry) Endpoints(b Balancer, ready, pending int) {
	r.gaugesMu.Lock()
	defer r.gaugesMu.Unlock()
	if ready == 0 && pending == 0 {
		delete(r.gauges, b)
		return
	}
	g := r.gauges[b]
	if g == nil {
		g = &[2]atomic.Int64{}
		r.gauges[b] = g
	}
	g[0].Store(int64(ready))
	g[1].Store(int64(pending))
}

// maxAuthorities bounds a label that clients make up.
const maxAuthorities = 256

// Authority is name as the authority label takes it: "" once too many
// different ones have been seen.
func (r *Registry) Authority(name string) string {
	r.authMu.RLock()
	_, known := r.authorities[name]
	full := len(r.authorities) >= maxAuthorities
	r.authMu.RUnlock()
	if known {
		return name
	}
	if full || len(name) > 253 {
		return ""
	}
	r.authMu.Lock()
	defer r.authMu.Unlock()
	name = strings.Clone(name)
	r.authorities[name] = struct{}{}
	return name
}

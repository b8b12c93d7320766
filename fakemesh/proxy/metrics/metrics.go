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

	ReasonNotFromRemote   = "no_tls_from_remote"
	ReasonPortSkipped     = "port_skipped"
	ReasonLoopback        = "loopback"
	ReasonNotProvided     = "not_provided_by_service_discovery"
	ReasonWithoutOverride = "ingress_without_override"
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

// Add adds n, which is not negative.
func (c *Count) Add(n int) { c.n.Add(uint64(n)) }

// authzKey is a policy decision with its labels.
type authzKey struct {
	name  string
	peer  Peer
	route policy.Ref
}

type errorKey struct {
	direction, of, kind string // of is http or tcp
}

// Registry is everything one proxy counts.
type Registry struct {
	http    table[Flow, HTTP]
	control table[Control, HTTP]
	tcp     table[tcpKey, TCP]
	authz   table[authzKey, Count]
	errors  table[errorKey, Count]
	routes  table[RouteBackend, Count]
	info    Info

	authMu      sync.RWMutex
	authorities map[string]struct{}

	balancersMu sync.Mutex
	balancers   map[Balancer]func() (ready, pending int)
}

// Control is a service of the control plane that the proxy calls.
type Control struct {
	Addr     string // as it is configured: host:port
	ServerID string
}

type tcpKey struct {
	Peer
	side string // src or dst
}

// Balancer names the endpoints of one port of a Service.
type Balancer struct {
	Namespace, Service string
	Port               uint16
}

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
	return &Registry{info: info, balancers: map[Balancer]func() (int, int){}, authorities: map[string]struct{}{}}
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

// get finds or makes a series; one too many is counted under overflow's key.
// Keys are large: they go by pointer, or they would make a request's stack grow.
func (t *table[K, V]) get(key *K, overflow func(K) K, now int64) *V {
	t.mu.RLock()
	v := t.m[*key]
	t.mu.RUnlock()
	if v == nil {
		v = t.add(key, overflow)
	}
	any(v).(entry).touched().Store(now)
	return v
}

func (t *table[K, V]) add(key *K, overflow func(K) K) *V {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[K]*V{}
	}
	own := *key
	if _, known := t.m[own]; !known && len(t.m) >= maxSeries {
		own = overflow(own)
	}
	v := t.m[own]
	if v == nil {
		v = new(V)
		t.m[own] = v
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
func (r *Registry) HTTP(f *Flow) *HTTP {
	return r.http.get(f, otherFlow, r.seconds())
}

// Control is the counter of calls to a service of the control plane.
func (r *Registry) Control(c Control) *HTTP { return r.control.get(&c, nothing[Control], r.seconds()) }

// Request counts a request as it is sent on.
func (h *HTTP) Request() { h.requests.Add(1) }

// Response counts a request's end; latency is how long the first of its
// response's body took, or its end where there is none.
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
	return r.tcp.get(&tcpKey{p, side}, otherPeer, r.seconds())
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
func (r *Registry) Authz(name string, p *Peer, route policy.Ref) *Count {
	return r.authz.get(&authzKey{name, *p, route}, otherDecision, r.seconds())
}

// Error is the counter of requests that ended with an error of one kind that
// the proxy made up.
func (r *Registry) Error(direction, kind string) *Count {
	return r.error(errorKey{direction, "http", kind})
}

// TCPError is the counter of connections that could not be carried.
func (r *Registry) TCPError(direction, kind string) *Count {
	return r.error(errorKey{direction, "tcp", kind})
}

func (r *Registry) error(k errorKey) *Count {
	return r.errors.get(&k, func(k errorKey) errorKey { return k }, r.seconds())
}

// The keys of what is one series too many.
func otherFlow(f Flow) Flow     { return Flow{Peer: Peer{Direction: f.Direction}} }
func otherPeer(k tcpKey) tcpKey { return tcpKey{Peer{Direction: k.Direction}, k.side} }
func otherDecision(k authzKey) authzKey {
	return authzKey{name: k.name, peer: Peer{Direction: Inbound}}
}
func nothing[K any](K) (none K) { return none }

// Balance shows what counts says of a balancer's endpoints, whenever the
// metrics are read; nil shows them no more.
func (r *Registry) Balance(b Balancer, counts func() (ready, pending int)) {
	r.balancersMu.Lock()
	defer r.balancersMu.Unlock()
	if counts == nil {
		delete(r.balancers, b)
		return
	}
	r.balancers[b] = counts
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

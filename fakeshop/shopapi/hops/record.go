package hops

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// Self is what a pod says of itself.
type Self struct{ head string }

// NewSelf describes a pod of a service; the names are cut to what a line can
// hold.
func NewSelf(service, pod, node, version string) Self {
	if rest, own := strings.CutPrefix(pod, service+"-"); own && rest != "" {
		pod = "~" + clean(rest)
	} else if pod = clean(pod); pod == "" {
		pod = "_"
	}
	return Self{head: pod + "@" + clean(node) + "/" + clean(version) + ":"}
}

// Record is the calls that are made for one request. It is safe for concurrent
// use; a nil Record keeps nothing.
type Record struct {
	began time.Time

	mu     sync.Mutex
	calls  []byte
	hops   int
	untold int
}

type key struct{}

// Begin starts the record of a request that has just arrived.
func Begin(ctx context.Context) (context.Context, *Record) {
	r := &Record{began: time.Now()}
	return context.WithValue(ctx, key{}, r), r
}

// From returns the record of the request that ctx belongs to, nil when there is
// none.
func From(ctx context.Context) *Record {
	r, _ := ctx.Value(key{}).(*Record)
	return r
}

// Call is one call that a service made.
type Call struct {
	Service  string
	Began    time.Time
	Took     time.Duration
	Code     codes.Code
	Attempts int
	Answer   string // the called one's own line, "" when it did not answer
}

// room is what a line's other parts may need.
const room = 3*maxName + 40

// Add keeps a call. What there is no room for is left out, the answer first.
func (r *Record) Add(c Call) {
	if r == nil {
		return
	}
	below, ok := count(c.Answer)
	if !ok {
		c.Answer, below = "", 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		before := len(r.calls)
		r.calls = r.append(r.calls, c)
		if len(r.calls) <= Limit-room && r.hops+1+below < MaxHops {
			r.hops += 1 + below
			return
		}
		r.calls = r.calls[:before]
		if c.Answer == "" {
			r.untold++
			return
		}
		c.Answer, below = "", 0
	}
}

// count tells how many hops an answer has below its own, and whether it may
// stand in another one.
func count(answer string) (below int, ok bool) {
	if answer == "" || len(answer) > Limit {
		return 0, false
	}
	s := scanner{rest: answer}
	if !s.answer(Hop{Depth: 1}) || s.rest != "" {
		return 0, false
	}
	return s.hops - 1, true
}

func (r *Record) append(b []byte, c Call) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(b, clean(c.Service)...)
	b = append(b, ':')
	b = appendMicros(b, c.Began.Sub(r.began))
	b = append(b, ':')
	b = appendMicros(b, c.Took)
	if c.Code != codes.OK {
		b = append(b, '!')
		b = strconv.AppendUint(b, min(uint64(c.Code), 1<<16-1), 10)
	}
	if c.Attempts > 1 {
		b = append(b, '*')
		b = strconv.AppendInt(b, int64(min(c.Attempts, 1<<8-1)), 10)
	}
	if c.Answer != "" {
		b = append(b, '=')
		b = append(b, c.Answer...)
	}
	return b
}

func appendMicros(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, min(max(d.Microseconds(), 0), maxMicros-1), 10)
}

// Answer is the line with which the service answers now. What is added later is
// not in it.
func (r *Record) Answer(self Self) string {
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := make([]byte, 0, len(self.head)+len(r.calls)+32)
	b = append(b, self.head...)
	b = appendMicros(b, time.Since(r.began))
	if len(r.calls) == 0 && r.untold == 0 {
		return string(b)
	}
	b = append(b, '(')
	b = append(b, r.calls...)
	if r.untold > 0 {
		if len(r.calls) > 0 {
			b = append(b, ',')
		}
		b = append(b, '+')
		b = strconv.AppendInt(b, int64(min(r.untold, 1<<16-1)), 10)
	}
	return string(append(b, ')'))
}

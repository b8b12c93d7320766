package alb

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
)

// failures gathers why requests failed, which the access log's format has no
// room for, and tells it once a second and not once a request.
type failures struct {
	log *slog.Logger
	mu  sync.Mutex
	n   map[failure]int
}

type failure struct {
	group, target string
	status        int
	cause         string
}

// maxFailures are told apart within a second; the rest is counted together.
const maxFailures = 50

func newFailures(log *slog.Logger) *failures {
	return &failures{log: log, n: map[failure]int{}}
}

func (f *failures) note(g *group, t *target, status int, err error) {
	what := failure{group: g.spec.Load().Key, status: status, cause: causeOf(err)}
	if t != nil {
		what.target = t.address
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.n[what]; !known && len(f.n) >= maxFailures {
		what = failure{status: status, cause: "many different ones"}
	}
	f.n[what]++
}

// causeOf leaves the addresses away, which differ from one connection to the next.
func causeOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// tell logs what has been gathered.
func (f *failures) tell() {
	f.mu.Lock()
	seen := maps.Clone(f.n)
	clear(f.n)
	f.mu.Unlock()
	order := func(a, b failure) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.target, b.target), cmp.Compare(a.status, b.status), cmp.Compare(a.cause, b.cause))
	}
	for _, what := range slices.SortedFunc(maps.Keys(seen), order) {
		f.log.Warn("requests failed", "group", what.group, "target", what.target, "status", what.status, "cause", what.cause, "requests", seen[what])
	}
}

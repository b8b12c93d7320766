package agents

import (
	"errors"
	"fmt"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// ledger notes which arrivals of one group's schedule have a result: one bit
// each. It is not safe for concurrent use.
type ledger struct {
	seed  uint64
	lanes uint64
	part  wire.Part
	seen  [][]uint64 // by lane, 64 numbers a word
}

func newLedger(seed, lanes uint64, part wire.Part) *ledger {
	return &ledger{seed: seed, lanes: lanes, part: part, seen: make([][]uint64, lanes)}
}

// mostAhead is how far a number may be beyond all seen so far; what is further
// is no number of this schedule, and would only take up memory.
const mostAhead = 1 << 26

var errNotItsOwn = errors.New("a result of a request that is not the agent's")

// enter notes a result of the agent with an index.
func (l *ledger) enter(index int, r results.Request) error {
	lane, number := r.Seq%l.lanes, r.Seq/l.lanes
	mine := l.part
	mine.Index = index
	if !mine.Has(l.seed, lane, number) {
		return fmt.Errorf("%w: %d", errNotItsOwn, r.Seq)
	}
	word, bit := number/64, uint64(1)<<(number%64)
	have := uint64(len(l.seen[lane]))
	switch {
	case word >= have+mostAhead/64:
		return fmt.Errorf("%w: %d", errNotItsOwn, r.Seq)
	case word >= have:
		l.seen[lane] = append(l.seen[lane], make([]uint64, word+1-have)...)
	case l.seen[lane][word]&bit != 0:
		return fmt.Errorf("request %d has two results", r.Seq)
	}
	l.seen[lane][word] |= bit
	return nil
}

// has tells whether an arrival has a result.
func (l *ledger) has(lane, number uint64) bool {
	word := number / 64
	return lane < l.lanes && word < uint64(len(l.seen[lane])) && l.seen[lane][word]&(1<<(number%64)) != 0
}

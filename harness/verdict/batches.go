package verdict

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// batches cut a phase's or a window's requests by time, to see how alike
// neighbours are: where failures or slow answers come in bursts, thousands of
// requests say no more than a few independent ones.
type batches struct {
	width int64 // ns
	all   map[int64]*batch
	at    int64 // of last
	last  *batch
}

type batch struct {
	n, failed int64
	slow      [levels]uint32 // by how long they took, four levels an octave
}

const (
	maxBatches = 64
	minBatches = 12  // fewer tell nothing about neighbours
	levels     = 108 // 1 µs to a minute
)

func newBatches() batches { return batches{width: int64(time.Second), all: map[int64]*batch{}, at: -1} }

// level is which of the steps, four an octave, a latency in µs is on.
func level(us int64) int {
	us = min(max(us, 1), longest.Microseconds())
	octave := bits.Len64(uint64(us)) - 1
	part := 0
	if octave >= 2 {
		part = int(us>>(octave-2)) & 3
	}
	return min(octave*4+part, levels-1)
}

func (b *batches) add(scheduled, latency int64, failed bool) {
	at := scheduled / b.width
	if at != b.at || b.last == nil {
		b.last = b.all[at]
		for b.last == nil && len(b.all) >= maxBatches {
			b.widen()
			at = scheduled / b.width
			b.last = b.all[at]
		}
		if b.last == nil {
			b.last = &batch{}
			b.all[at] = b.last
		}
		b.at = at
	}
	b.last.n++
	b.last.slow[level(latency/1000)]++
	if failed {
		b.last.failed++
	}
}

func (b *batches) widen() {
	half := map[int64]*batch{}
	for at, one := range b.all {
		into := half[at/2]
		if into == nil {
			half[at/2] = one
			continue
		}
		into.join(one)
	}
	b.width, b.all, b.at, b.last = 2*b.width, half, -1, nil
}

func (b *batch) join(other *batch) {
	b.n += other.n
	b.failed += other.failed
	for i, n := range other.slow {
		b.slow[i] += n
	}
}

// failures is what dispersion counts for availability.
func (b *batch) failures() int64 { return b.failed }

// slowest returns a count of the slowest requests, such a share of all. Levels are
// counted whole, so it may be more: where fewer come in bursts, more do, too, but
// of fewer the bursts are seen less.
func (b *batches) slowest(share float64) func(*batch) int64 {
	var of [levels]int64
	all := int64(0)
	for _, one := range b.all {
		all += one.n
		for i, n := range one.slow {
			of[i] += int64(n)
		}
	}
	from := levels
	for n := 0.0; from > 0 && n < share*float64(all)-1e-6; {
		from--
		n += float64(of[from])
	}
	return func(b *batch) (n int64) {
		for _, m := range b.slow[from:] {
			n += int64(m)
		}
		return n
	}
}

// dispersion returns how many requests count for one independent one, at least
// 1 of them: how much more what is counted differs between batches than it would
// by chance. Neighbours may be alike over a short time or a long one, so batches
// are also joined by twos and fours; what a longer batch adds is what a still
// longer one would, as the ends of batches matter less. Few batches tell it less
// well, which Student's distribution makes up for. p is the share of all that is
// counted.
func (b *batches) dispersion(counted func(*batch) int64) (alike, p float64) {
	row := map[int64]tallyOf{}
	var n, hits int64
	for at, one := range b.all {
		h := counted(one)
		row[at] = tallyOf{one.n, h}
		n, hits = n+one.n, hits+h
	}
	if hits == 0 || hits == n {
		return 1, 0
	}
	p = float64(hits) / float64(n)
	alike = 1
	for before := 0.0; len(row) >= minBatches; {
		now := spread(row, p)
		most := now
		if before > 0 {
			most = max(now, 2*now-before)
		}
		student := 1 + 2.42/float64(len(row)-1) // of the square, at 97.5 %
		alike = max(alike, 1+(most-1)*student)
		before = now
		half := map[int64]tallyOf{}
		for at, one := range row {
			into := half[at/2]
			half[at/2] = tallyOf{into.n + one.n, into.hits + one.hits}
		}
		row = half
	}
	return alike, p
}

type tallyOf struct{ n, hits int64 }

// spread is the variance between batches over that of independent requests.
func spread(row map[int64]tallyOf, p float64) float64 {
	chi := 0.0
	// In order: a sum of floats depends on it, and the same run must give the same figure.
	for _, at := range slices.Sorted(maps.Keys(row)) {
		one := row[at]
		expected := float64(one.n) * p
		off := float64(one.hits) - expected
		chi += off * off / (expected * (1 - p))
	}
	return chi / float64(len(row)-1)
}

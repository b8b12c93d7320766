package verdict

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"meshsim.dev/meshsim/results"
)

// hostLoad is how busy the CPUs of the machine that a run took place on were,
// second by second, and which of these seconds saw a request that was too slow.
type hostLoad struct {
	seconds []hostSecond // by time
	phases  map[string]crowding
}

type hostSecond struct {
	results.HostSecond
	phase string // of the first request in it, "" when there was none
	slow  bool   // a request that began in it was too slow
}

// crowding counts a phase's seconds in which the host had no CPU to spare, and its
// others; failed are those with a request that was too slow. Seconds are counted and
// not requests, as one trouble makes many requests slow.
type crowding struct{ crowded, others sliceSum }

const (
	// exhaustedFrom is the share of a second's CPU time from which something had to
	// wait for a CPU.
	exhaustedFrom = 0.95
	// farOftener is how many times oftener such seconds must see a slow request than
	// the phase's others.
	farOftener = 3
)

func newHostLoad(probes []results.Probe) hostLoad {
	var h hostLoad
	for _, p := range probes {
		var seen results.HostLoad
		if p.Probe != results.ProbeHostLoad || json.Unmarshal(p.Data, &seen) != nil {
			continue
		}
		for _, s := range seen.Seconds {
			h.seconds = append(h.seconds, hostSecond{HostSecond: s})
		}
	}
	slices.SortFunc(h.seconds, func(a, b hostSecond) int { return cmp.Compare(a.From, b.From) })
	return h
}

// since returns the seconds from the one that a request began in, none where that is
// not known.
func (h *hostLoad) since(r *results.Request) []hostSecond {
	i := sort.Search(len(h.seconds), func(i int) bool { return h.seconds[i].To > r.Scheduled })
	if i == len(h.seconds) || h.seconds[i].From > r.Scheduled {
		return nil
	}
	return h.seconds[i:]
}

// add notes a request that was answered.
func (h *hostLoad) add(r *results.Request, tooSlow bool) {
	if seconds := h.since(r); len(seconds) > 0 {
		s := &seconds[0]
		s.phase = cmp.Or(s.phase, r.Phase)
		s.slow = s.slow || tooSlow
	}
}

// count adds up the seconds of all phases. All requests are known by then.
func (h *hostLoad) count() {
	h.phases = map[string]crowding{}
	for i := range h.seconds {
		s := &h.seconds[i]
		if s.phase == "" {
			continue
		}
		c := h.phases[s.phase]
		sum := &c.others
		if s.Busy >= exhaustedFrom {
			sum = &c.crowded
		}
		sum.n++
		if s.slow {
			sum.failed++
		}
		h.phases[s.phase] = c
	}
}

// explain blames the host for a slow request when it had no CPU to spare all the
// while that was under way, and such seconds of the phase saw slow requests far
// oftener than its others, beyond chance. Without others there is nothing to compare
// with, and nothing is said.
func (h *hostLoad) explain(r *results.Request, b blame) (blame, bool) {
	seconds := h.since(r)
	if len(seconds) == 0 {
		return b, false
	}
	for i := 0; i < len(seconds) && seconds[i].From <= r.Done; i++ {
		if seconds[i].Busy < exhaustedFrom {
			return b, false
		}
	}
	c := h.phases[r.Phase]
	if c.others.n == 0 || c.crowded.share() < farOftener*c.others.share() || beyondChance(c.crowded, c.others) >= surely {
		return b, false
	}
	b.kind, b.cause = causeHost, "the machine that the rehearsal ran on had no CPU to spare"
	b.near = []string{
		fmt.Sprintf("%s: %s of %s seconds whose CPUs were at least %s busy saw a slow request, and %s of %s others",
			r.Phase, count(c.crowded.failed), count(c.crowded.n), share(exhaustedFrom, 0), count(c.others.failed), count(c.others.n)),
		seconds[0].words(),
	}
	b.remedied(causeHost)
	return b, true
}

func (s *hostSecond) words() string {
	words := fmt.Sprintf("the CPUs were %s busy from %s to %s", share(s.Busy, 0), at(s.From), at(s.To))
	if s.Waiting != nil {
		words += fmt.Sprintf(", some program waited for one in %s of that time", share(*s.Waiting, 0))
	}
	return words
}

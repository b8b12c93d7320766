package verdict

import (
	"time"

	"meshsim.dev/meshsim/results"
)

// load is how much came at each second and how much of it was too slow, which
// tells saturation from a single slow answer.
type load struct {
	host      hostLoad
	seconds   []second
	phases    map[string]*phaseSpan
	postponed []postponed
}

type second struct{ all, slow int32 }

// phaseSpan is how many requests a phase had, in which time.
type phaseSpan struct{ count, first, last int64 }

// postponed is a slow request that waits for the whole load to be known.
type postponed struct {
	request results.Request
	blame   blame
}

const (
	maxSeconds   = 7 * 24 * 3600 // of a damaged record
	maxPostponed = 20_000

	// A second is saturated when so much more came than in the phase's mean, and
	// so large a share of it was slow.
	muchMore, manySlow = 1.2, 0.25
	fewest             = 20 // requests that a share is taken of
)

func (l *load) add(r *results.Request, tooSlow bool) {
	l.host.add(r, tooSlow)
	i := int(r.Scheduled / int64(time.Second))
	if i >= maxSeconds {
		return
	}
	for len(l.seconds) <= i {
		l.seconds = append(l.seconds, second{})
	}
	l.seconds[i].all++
	if tooSlow {
		l.seconds[i].slow++
	}
	if l.phases == nil {
		l.phases = map[string]*phaseSpan{}
	}
	p := l.phases[r.Phase]
	if p == nil {
		if len(l.phases) >= maxNames {
			return
		}
		p = &phaseSpan{first: r.Scheduled, last: r.Scheduled}
		l.phases[r.Phase] = p
	}
	p.count++
	p.first, p.last = min(p.first, r.Scheduled), max(p.last, r.Scheduled)
}

// postpone keeps a slow request for settle, if there is room.
func (l *load) postpone(r *results.Request, b blame) bool {
	if len(l.postponed) >= maxPostponed {
		return false
	}
	l.postponed = append(l.postponed, postponed{*r, b})
	return true
}

// settle gives the postponed requests their reasons.
func (l *load) settle(into groups) {
	l.host.count()
	for i := range l.postponed {
		p := &l.postponed[i]
		if b, yes := l.host.explain(&p.request, p.blame); yes {
			p.blame = b
		} else if l.saturated(&p.request) {
			p.blame.kind, p.blame.cause = causeSaturation, "more came than could be served in time"
			p.blame.remedied(causeSaturation)
		}
		into.add(&p.request, p.blame)
	}
	l.postponed = nil
}

// saturated looks at the second of a request and the one before it.
func (l *load) saturated(r *results.Request) bool {
	i := int(r.Scheduled / int64(time.Second))
	p := l.phases[r.Phase]
	if i >= len(l.seconds) || p == nil || p.last <= p.first {
		return false
	}
	around := l.seconds[max(i-1, 0) : i+1]
	var all, slow int32
	for _, s := range around {
		all += s.all
		slow += s.slow
	}
	mean := float64(p.count) / time.Duration(p.last-p.first).Seconds()
	rate := float64(all) / float64(len(around))
	return all >= fewest && rate >= muchMore*mean && float64(slow) >= manySlow*float64(all)
}

package verdict

import (
	"fmt"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// series counts requests and failures in short slices of time. It doubles the
// slices whenever there would be too many.
type series struct {
	width int64 // ns
	all   []slice
}

type slice struct{ n, failed, unsure uint32 }

const maxSlices = 1 << 18 // seven hours of 100 ms

func newSeries() *series { return &series{width: int64(100 * time.Millisecond)} }

func (s *series) add(r *results.Request, unsure bool) {
	if r.Outcome == results.Undispatched {
		return
	}
	for r.Scheduled/s.width >= maxSlices {
		s.widen()
	}
	i := int(r.Scheduled / s.width)
	for len(s.all) <= i {
		s.all = append(s.all, slice{})
	}
	failed := r.Outcome == results.Failed
	switch {
	case unsure && failed:
		s.all[i].unsure++
	case unsure:
	default:
		s.all[i].n++
		if failed {
			s.all[i].failed++
		}
	}
}

func (s *series) widen() {
	s.width *= 2
	for i := range s.all {
		if i%2 == 0 {
			s.all[i/2] = s.all[i]
			continue
		}
		into := &s.all[i/2]
		into.n, into.failed, into.unsure = into.n+s.all[i].n, into.failed+s.all[i].failed, into.unsure+s.all[i].unsure
	}
	s.all = s.all[:(len(s.all)+1)/2]
}

// recovered is how one disturbance ended.
type recovered struct {
	took   time.Duration // from the instant to the last failure's slice's end; 0 without one
	failed int64
	clean  int64 // requests after it without a failure, over the time that must be clean
	open   bool  // the record ends before that
	unsure bool  // failures that may belong here change it
}

// after follows the failures from an instant until for so long none came.
func (s *series) after(instant int64) recovered {
	var got recovered
	first := int(instant / s.width)
	quiet := int(int64(budget.CleanSeconds*time.Second) / s.width)
	last := first - 1
	for i := first; ; i++ {
		if i >= len(s.all) {
			got.open = true
			return got
		}
		one := s.all[i]
		got.unsure = got.unsure || one.unsure > 0
		if one.failed > 0 {
			last = i
			got.failed += int64(one.failed)
			got.clean = 0
			got.took = time.Duration(int64(i+1)*s.width - instant)
			continue
		}
		got.clean += int64(one.n)
		if i-last >= quiet {
			return got
		}
	}
}

// recovery judges every time that what it is counted from happened; the slowest
// recovery is told.
func (e *evaluation) recovery(b budget.Budget, i int) finding {
	instants, why := e.marks.all(*b.Mark)
	if why != "" {
		return missing("", "%s", why)
	}
	s := e.tally.of(i)
	if len(s) == 0 || len(s[0].series.all) == 0 {
		return missing("", "no request was recorded")
	}
	worst := finding{verdict: results.Pass}
	slowest := time.Duration(-1)
	for _, instant := range instants {
		got := s[0].series.after(instant)
		f := judgeRecovery(b, instant, got)
		worst.evidence = append(worst.evidence, fmt.Sprintf("after %s at %s: %s", b.Mark.Mark, at(instant), f.measured))
		if worse := worst.verdict.Worse(f.verdict); worse != worst.verdict || got.took > slowest {
			worst.measured, worst.figure, worst.verdict, slowest = f.measured, f.figure, worse, max(got.took, slowest)
		}
	}
	worst.evidence = firstOf(worst.evidence, 10)
	worst.measured = fmt.Sprintf("%s (%s)", worst.measured, plural(int64(len(instants)), "time", "times"))
	return worst
}

func judgeRecovery(b budget.Budget, instant int64, got recovered) finding {
	f := finding{verdict: results.Pass, measured: "no request failed"}
	if got.failed > 0 {
		f.measured = fmt.Sprintf("requests failed until %.1f s after it, %s of them", got.took.Seconds(), count(got.failed))
	}
	if f.figure = lasted(got.took, b.Duration); got.open && got.took <= b.Duration {
		f.figure = nil // how long it takes is not known yet
	}
	switch {
	case got.took > b.Duration:
		f.verdict = results.Fail
	case got.open:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; the record ends before %d s went by without a failure", budget.CleanSeconds)
	case got.unsure:
		f.verdict = results.Inconclusive
		f.measured += "; some that failed do not tell their way and may belong here"
	case got.clean < budget.CleanRequests:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; only %s in the %d s after it, %d are needed", plural(got.clean, "request", "requests"), budget.CleanSeconds, budget.CleanRequests)
	}
	return f
}

package verdict

import (
	"fmt"
	"slices"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// marks are when steps and phases began and ended, and what happened.
type marks struct {
	events []results.Event
	begin  int64 // of the first phase
	end    int64 // of the last phase that ended; below zero when none did
}

func newMarks(events []results.Event) marks {
	m := marks{events: events, end: -1}
	if i := slices.IndexFunc(events, func(ev results.Event) bool { return ev.Kind == results.PhaseBegin }); i >= 0 {
		m.begin = events[i].At
	}
	for _, e := range events {
		if e.Kind == results.PhaseEnd {
			m.end = max(m.end, e.At)
		}
	}
	return m
}

// period is when something began and ended; ended is false when that was not seen.
type period struct {
	from, to int64
	ended    bool
}

// periods returns every time that a mark was there, in order.
func (m marks) periods(mark budget.Mark) []period {
	begin, end := results.StepBegin, results.StepEnd
	if mark.Kind == budget.PhaseMark {
		begin, end = results.PhaseBegin, results.PhaseEnd
	}
	var all []period
	for _, e := range m.events {
		if mark.Kind == budget.PhaseMark && e.Name != mark.Name || mark.Kind == budget.StepMark && !mark.Names(e.Name, e.Detail) {
			continue
		}
		switch e.Kind {
		case begin:
			all = append(all, period{from: e.At})
		case end:
			if n := len(all); n > 0 && !all[n-1].ended {
				all[n-1].to, all[n-1].ended = e.At, true
			}
		}
	}
	return all
}

// instant returns when an edge was; why says why that is not known.
func (m marks) instant(e budget.Edge) (at int64, why string) {
	all := m.periods(e.Mark)
	nth := max(e.Mark.Nth, 1)
	switch {
	case len(all) < nth:
		return 0, fmt.Sprintf("%s was not recorded", e.Mark)
	case e.End && !all[nth-1].ended:
		return 0, fmt.Sprintf("%s has no end in the record", e.Mark)
	case e.End:
		return all[nth-1].to + int64(e.Shift), ""
	}
	return all[nth-1].from + int64(e.Shift), ""
}

// all returns every instant that recovery is counted from.
func (m marks) all(e budget.Edge) (instants []int64, why string) {
	if e.Mark.Kind != budget.EventMark {
		at, why := m.instant(e)
		return []int64{at}, why
	}
	for _, seen := range m.events {
		if seen.Kind == e.Mark.Name && seen.Fields[results.FieldState] == e.Mark.Word {
			instants = append(instants, seen.At)
		}
	}
	if len(instants) == 0 {
		return nil, fmt.Sprintf("no %s was recorded", e.Mark)
	}
	return instants, ""
}

// window returns a window's instants.
func (m marks) window(w budget.Window) (from, to int64, why string) {
	if from, why = m.instant(w.From); why != "" {
		return 0, 0, why
	}
	if to, why = m.instant(w.To); why != "" {
		return 0, 0, why
	}
	if from >= to {
		return 0, 0, fmt.Sprintf("its window ends at %s, before it begins at %s", at(to), at(from))
	}
	return from, to, ""
}

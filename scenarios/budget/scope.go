package budget

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Field is what requests or calls are chosen by.
type Field string

const (
	Route    Field = "route"
	Status   Field = "status"   // HTTP's or gRPC's number
	Protocol Field = "protocol" // http | grpc
	Class    Field = "class"    // of a failure
	Service  Field = "service"  // that was called
	Version  Field = "version"  // of its pod
	Caller   Field = "caller"   // the service that called it
	Node     Field = "node"     // of its pod
)

var fields = []Field{Route, Status, Protocol, Class, Service, Version, Caller, Node}

// OfHops tells whether the field is one of a hop, not of a request.
func (f Field) OfHops() bool { return f == Service || f == Version || f == Caller || f == Node }

// Condition chooses by one field: any of Values matches. Conditions on hops
// must hold of one and the same hop.
type Condition struct {
	Field  Field
	Values []Name
}

// ChoosesOutcome tells whether a condition says which outcomes count as bad,
// among all requests, and not which requests are looked at.
func (b Budget) ChoosesOutcome(c Condition) bool {
	return (c.Field == Status || c.Field == Class) && (b.Subject == FailedRequests || b.Subject == RejectedRequests)
}

// Matches tells whether value is one of the condition's.
func (c Condition) Matches(value string) bool {
	for i := range c.Values {
		if c.Values[i].Name == value {
			return true
		}
	}
	return false
}

// MarkKind is what a mark is in the run's record.
type MarkKind string

const (
	StepMark  MarkKind = "step"
	PhaseMark MarkKind = "phase"
	EventMark MarkKind = "event" // kind and state, such as node:not-ready
)

// Mark is something that happened in the run.
type Mark struct {
	Kind MarkKind
	Name string // the step's, the phase's; of an event pod, node or endpoints
	// Word is one word of the step's options, the state of an event.
	Word string
	Nth  int // which of several steps of that name, from 1; 0: the only one
	// Column is where it stands in its line, from 1.
	Column int
}

// String writes the mark as a budget does.
func (m Mark) String() string {
	s := string(m.Kind) + " " + m.Name
	if m.Word != "" {
		s += ":" + m.Word
	}
	if m.Nth > 0 {
		s += "#" + strconv.Itoa(m.Nth)
	}
	return s
}

// Names tells whether the mark names this step, whose options are in words.
func (m Mark) Names(step, words string) bool {
	return m.Name == step && (m.Word == "" || slices.Contains(strings.Fields(strings.ReplaceAll(words, ",", " ")), m.Word))
}

// Edge is an instant: a mark's begin or end, and so much later (or earlier,
// below zero).
type Edge struct {
	Mark  Mark
	End   bool
	Shift time.Duration
}

func (e Edge) String() string {
	which := "begin"
	if e.End {
		which = "end"
	}
	s := fmt.Sprintf("the %s of %s", which, e.Mark)
	if e.Mark.Kind == EventMark {
		s = e.Mark.String()
	}
	switch {
	case e.Shift > 0:
		return fmt.Sprintf("%s after %s", short(e.Shift), s)
	case e.Shift < 0:
		return fmt.Sprintf("%s before %s", short(-e.Shift), s)
	}
	return s
}

// Window is a part of the run, From up to but without To.
type Window struct{ From, To Edge }

func (w Window) String() string {
	if w.From.Mark == w.To.Mark && !w.From.End && w.To.End && w.From.Shift == 0 && w.To.Shift == 0 {
		return "during " + w.From.Mark.String()
	}
	return fmt.Sprintf("from %s to %s", w.From, w.To)
}

// Marks returns the marks that the budget names.
func (b Budget) Marks() []Mark {
	var all []Mark
	if b.Window != nil {
		all = append(all, b.Window.From.Mark)
		if b.Window.To.Mark != b.Window.From.Mark {
			all = append(all, b.Window.To.Mark)
		}
	}
	if b.Mark != nil {
		all = append(all, b.Mark.Mark)
	}
	return all
}

// filter reads "of field value {, value} {and field value …}".
func (p *parser) filter(allowed []Field) []Condition {
	var all []Condition
	for {
		column := p.next().column
		field := Field(p.oneOf(fieldNames(allowed)...))
		if slices.ContainsFunc(all, func(c Condition) bool { return c.Field == field }) {
			p.fail(column, fmt.Sprintf("%s is given twice", field))
		}
		if p.err != nil {
			return nil
		}
		all = append(all, Condition{field, p.names("a " + string(field))})
		if p.next().text != "and" || p.err != nil {
			return all
		}
		p.take()
	}
}

func fieldNames(all []Field) []string {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = string(f)
	}
	return names
}

// scope reads what a budget is about: phases or a window, at most one.
func (p *parser) scope(b *Budget, on On) {
	switch word := p.next().text; {
	case p.err != nil:
	case word == "in" && on != OnRun:
		p.take()
		b.Phases = p.names("a phase's name")
	case on != OnRequests && on != OnWindow:
	case word == "from":
		p.take()
		from := p.edge(false)
		p.word("to")
		b.Window = &Window{from, p.edge(true)}
	case word == "during":
		p.take()
		m := p.mark(StepMark, PhaseMark)
		b.Window = &Window{Edge{Mark: m}, Edge{Mark: m, End: true}}
	case word == "for":
		p.take()
		d := p.duration()
		after := p.oneOf("after", "before") == "after"
		m := p.mark(StepMark, PhaseMark)
		if after {
			b.Window = &Window{Edge{Mark: m, End: true}, Edge{Mark: m, End: true, Shift: d}}
		} else {
			b.Window = &Window{Edge{Mark: m, Shift: -d}, Edge{Mark: m}}
		}
	}
}

// edge reads an instant; where the line does not say, it is the mark's end or
// its begin.
func (p *parser) edge(end bool) Edge {
	var shift time.Duration
	if t := p.next().text; t != "" && t[0] >= '0' && t[0] <= '9' {
		shift = p.duration()
		if p.oneOf("after", "before") == "before" {
			shift = -shift
		}
	}
	if word := p.next().text; word == "begin" || word == "end" {
		p.take()
		end = word == "end"
		p.word("of")
	}
	return Edge{Mark: p.mark(StepMark, PhaseMark), End: end, Shift: shift}
}

// eventStates are the events that recovery can be counted from.
var eventStates = map[string][]string{
	"pod":       {"terminating", "gone", "not-ready", "restarted", "oom-killed"},
	"node":      {"not-ready", "ready"},
	"endpoints": {"removed", "added"},
}

func (p *parser) mark(kinds ...MarkKind) Mark {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	kind := MarkKind(p.oneOf(words...))
	t := p.next()
	what := map[MarkKind]string{StepMark: "a step's name", PhaseMark: "a phase's name", EventMark: "an event such as node:not-ready"}[kind]
	text := p.want(what, func(s string) bool {
		name, option, has := strings.Cut(strings.SplitN(s, "#", 2)[0], ":")
		return named(name) && (!has || named(option)) && (kind != PhaseMark || s == name)
	})
	m := Mark{Kind: kind, Name: text, Column: t.column}
	if p.err != nil || kind == PhaseMark {
		return m
	}
	if name, nth, found := strings.Cut(text, "#"); found {
		n, err := strconv.Atoi(nth)
		if err != nil || n < 1 || kind != StepMark || !digits(nth) {
			p.fail(t.column, fmt.Sprintf("%q should be %s, and after # which of them, from 1", text, what))
			return m
		}
		m.Nth, text = n, name
	}
	m.Name, m.Word, _ = strings.Cut(text, ":")
	if states, known := eventStates[m.Name]; kind == EventMark && (!known || !slices.Contains(states, m.Word)) {
		var all []string
		for name, states := range eventStates {
			for _, s := range states {
				all = append(all, name+":"+s)
			}
		}
		slices.Sort(all)
		p.fail(t.column, fmt.Sprintf("%q should be an event: %s%s", text, strings.Join(all, ", "), didYouMean(text, all)))
	}
	return m
}

package importer

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"meshsim.dev/meshsim/harness/traffic/accesslog"
)

// Report is what an import understood.
type Report struct {
	Lines    int64         `json:"lines"`
	Requests int64         `json:"requests"` // that are in the recording
	From     time.Time     `json:"from,omitzero"`
	Span     time.Duration `json:"spanNs"`
	// MeanRate is requests a second over the span; BusiestMinute the requests of
	// the minute that had most.
	MeanRate      float64 `json:"meanRate"`
	BusiestMinute int64   `json:"busiestMinute"`
	// LongestGap is the longest time without a request: a line with a wrong date
	// shows in it.
	LongestGap time.Duration `json:"longestGapNs"`
	Routes     []Route       `json:"routes"`
	Unused     []Unused      `json:"unused,omitempty"`
	Paths      []Path        `json:"unmappedPaths,omitempty"` // most frequent first
	// OtherPaths are requests whose paths there was no room to tell apart.
	OtherPaths int64 `json:"otherUnmappedPaths,omitempty"`
	Logs       []Log `json:"logs"`
}

// Route is one of the shop's routes in the recording.
type Route struct {
	Name     string           `json:"name"`
	Requests int64            `json:"requests"`
	Share    float64          `json:"share"`             // 0–1
	Answers  map[string]int64 `json:"answers,omitempty"` // by class, such as 2xx
}

// Unused are lines that are not in the recording, for one reason.
type Unused struct {
	Reason   string    `json:"reason"`
	Lines    int64     `json:"lines"`
	Examples []Example `json:"examples,omitempty"`
}

// Example is where a line stands, and what it looks like without what it holds.
type Example struct {
	Log   string `json:"log"`
	Line  int64  `json:"line"`
	Looks string `json:"looks,omitempty"`
}

// Path is a kind of path that no rule knows.
type Path struct {
	Looks    string  `json:"looks"` // method and path
	Requests int64   `json:"requests"`
	Example  Example `json:"example"`
}

// Log is one file.
type Log struct {
	Name   string `json:"name"`
	Format string `json:"format,omitempty"` // of its lines that could be read; "mixed" for several
	Lines  int64  `json:"lines"`
	Used   int64  `json:"used"`
	Damage string `json:"damage,omitempty"` // why it ended before its end
}

func (t *tally) report(sources []*source) *Report {
	r := &Report{Lines: t.lines, Requests: t.requests, BusiestMinute: t.busiest, OtherPaths: t.otherPath.count}
	if t.requests > 0 {
		r.From = time.UnixMicro(t.first).UTC()
		r.Span = time.Duration(t.last-t.first) * time.Microsecond
	}
	if r.Span > 0 {
		r.MeanRate = float64(t.requests) / r.Span.Seconds()
	}
	r.LongestGap = time.Duration(t.gap) * time.Microsecond
	r.Routes = t.routes()
	r.Unused = t.unused()
	for looks, p := range t.paths {
		r.Paths = append(r.Paths, Path{looks, p.count, p.where})
	}
	slices.SortFunc(r.Paths, func(a, b Path) int {
		return cmp.Or(-cmp.Compare(a.Requests, b.Requests), cmp.Compare(a.Example.Line, b.Example.Line), cmp.Compare(a.Looks, b.Looks))
	})
	for _, s := range sources {
		r.Logs = append(r.Logs, s.log())
	}
	return r
}

func (t *tally) routes() []Route {
	by := map[string]*Route{}
	for i, one := range t.perRule {
		if one.requests == 0 {
			continue
		}
		name := t.rules.Rules[i].Route
		if by[name] == nil {
			by[name] = &Route{Name: name, Answers: map[string]int64{}}
		}
		by[name].Requests += one.requests
		for class, n := range one.classes {
			if n > 0 {
				by[name].Answers[className(class)] += n
			}
		}
	}
	routes := []Route{}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		by[name].Share = float64(by[name].Requests) / float64(t.requests)
		routes = append(routes, *by[name])
	}
	slices.SortStableFunc(routes, func(a, b Route) int { return -cmp.Compare(a.Requests, b.Requests) })
	return routes
}

func className(class int) string {
	if class == 0 {
		return "none"
	}
	return fmt.Sprintf("%dxx", class)
}

func (t *tally) unused() []Unused {
	var all []Unused
	for reason, c := range t.reasons {
		if c.count > 0 {
			all = append(all, Unused{accesslog.Reason(reason).String(), c.count, c.examples})
		}
	}
	for _, one := range []struct {
		why string
		counted
	}{
		{"out of order by more than could be held back", t.late},
		{"outside the times that were asked for", t.outside},
		{"more than ten years after the first request", t.beyond},
	} {
		if one.count > 0 {
			all = append(all, Unused{one.why, one.count, one.examples})
		}
	}
	unknown := t.otherPath.count
	for _, p := range t.paths {
		unknown += p.count
	}
	if unknown > 0 {
		all = append(all, Unused{"no rule for its path", unknown, nil})
	}
	dropped := map[string]int64{}
	for i, n := range t.dropped {
		dropped[t.rules.Rules[i].Drop] += n
	}
	for _, why := range slices.Sorted(maps.Keys(dropped)) {
		if n := dropped[why]; n > 0 {
			all = append(all, Unused{"left out by a rule: " + why, n, nil})
		}
	}
	slices.SortStableFunc(all, func(a, b Unused) int { return -cmp.Compare(a.Lines, b.Lines) })
	return all
}

func (s *source) log() Log {
	l := Log{Name: s.name, Lines: s.read, Used: s.used}
	for format := range s.formats {
		l.Format = format
	}
	if len(s.formats) > 1 {
		l.Format = "mixed"
	}
	if s.damage != nil {
		l.Damage = s.damage.Error()
	}
	return l
}

// shownPaths and shownLogs are how many a person is shown; JSON has all.
const (
	shownPaths = 12
	shownLogs  = 8
)

// Write tells a person what was understood.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d lines of %d logs, %d requests recorded", r.Lines, len(r.Logs), r.Requests)
	if r.Requests > 0 {
		fmt.Fprintf(&b, ": %s from %s,\n%.3g a second on average, %d in the busiest minute, no longer than %s without any",
			r.Span.Round(time.Millisecond), r.From.Format("2006-01-02 15:04:05 MST"), r.MeanRate, r.BusiestMinute, r.LongestGap.Round(time.Millisecond))
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	if len(r.Routes) > 0 {
		fmt.Fprint(table, "\nroute\trequests\tshare\tanswers\n")
	}
	for _, one := range r.Routes {
		var answers []string
		for _, class := range slices.Sorted(maps.Keys(one.Answers)) {
			answers = append(answers, fmt.Sprintf("%d %s", one.Answers[class], class))
		}
		fmt.Fprintf(table, "%s\t%d\t%.1f %%\t%s\n", one.Name, one.Requests, 100*one.Share, strings.Join(answers, ", "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	r.writeUnused(&b)
	r.writePaths(&b)
	r.writeLogs(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeUnused(b *strings.Builder) {
	if len(r.Unused) > 0 {
		b.WriteString("\nnot recorded\n")
	}
	for _, u := range r.Unused {
		fmt.Fprintf(b, "  %d lines: %s\n", u.Lines, u.Reason)
		for _, e := range u.Examples {
			fmt.Fprintf(b, "      %s:%d", e.Log, e.Line)
			if e.Looks != "" {
				fmt.Fprintf(b, "  %s", e.Looks)
			}
			b.WriteString("\n")
		}
	}
}

func (r *Report) writePaths(b *strings.Builder) {
	if len(r.Paths) > 0 {
		b.WriteString("\npaths without a rule (~ a word that is not shown, * anything else)\n")
	}
	for _, p := range r.Paths[:min(len(r.Paths), shownPaths)] {
		fmt.Fprintf(b, "  %8d  %s  (%s:%d)\n", p.Requests, p.Looks, p.Example.Log, p.Example.Line)
	}
	rest := r.OtherPaths
	for _, p := range r.Paths[min(len(r.Paths), shownPaths):] {
		rest += p.Requests
	}
	if rest > 0 {
		fmt.Fprintf(b, "  %8d  others\n", rest)
	}
}

func (r *Report) writeLogs(b *strings.Builder) {
	for _, l := range r.Logs {
		if l.Damage != "" {
			fmt.Fprintf(b, "\n%s could not be read to its end: %s\n", l.Name, l.Damage)
		}
	}
	if len(r.Logs) < 2 {
		return
	}
	b.WriteString("\nlogs\n")
	for _, l := range r.Logs[:min(len(r.Logs), shownLogs)] {
		fmt.Fprintf(b, "  %s: %s, %d of %d lines used\n", l.Name, cmp.Or(l.Format, "nothing that could be read"), l.Used, l.Lines)
	}
	if more := len(r.Logs) - shownLogs; more > 0 {
		fmt.Fprintf(b, "  and %d more\n", more)
	}
}

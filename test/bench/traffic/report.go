package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
)

// report is all that one run found; its JSON is what -json writes.
type report struct {
	Host   sheet.Host     `json:"host"`
	Begun  time.Time      `json:"begun"`
	Took   string         `json:"took"`
	Quick  bool           `json:"quick"` // too short to conclude from
	Lags   []lag          `json:"lags,omitempty"`
	Rivals []*rival       `json:"rivals,omitempty"`
	Memory []memory       `json:"memory,omitempty"`
	Import *importFigures `json:"import,omitempty"`
	Goals  sheet.Goals    `json:"goals"`
}

// lag is how late requests left at one rate.
type lag struct {
	Protocol string  `json:"protocol"`
	Rate     float64 `json:"rate"`              // requests a second
	Highest  bool    `json:"highest,omitempty"` // that is held; 0 for none
	Held     bool    `json:"held"`
	sent
	used
}

// rival is a program, and what it did in all its turns.
type rival struct {
	Name     string    `json:"name"`
	Answered int64     `json:"answered"`
	CPU      float64   `json:"cpuSeconds"`
	Turns    []float64 `json:"perCpuSecond"` // answered requests, of each turn
}

func (r *rival) perCPU() float64 {
	if r.CPU == 0 {
		return 0
	}
	return float64(r.Answered) / r.CPU
}

// took adds a turn of a program.
func (r *report) took(name string, answered int64, u used) {
	one := r.rival(name)
	if one == nil {
		one = &rival{Name: name}
		r.Rivals = append(r.Rivals, one)
	}
	one.Answered += answered
	one.CPU += u.CPU
	one.Turns = append(one.Turns, float64(answered)/max(u.CPU, 1e-9))
}

func (r *report) rival(name string) *rival {
	for _, one := range r.Rivals {
		if one.Name == name {
			return one
		}
	}
	return nil
}

// memory is what a sender of so many results had resident.
type memory struct {
	Results int64   `json:"results"`
	Rate    float64 `json:"rate"`
	residence
	used
}

type importFigures struct {
	imported
	used
}

func (i importFigures) perSecond() float64 { return float64(i.Lines) / max(i.Took.Seconds(), 1e-9) }

// The goals.
const (
	goalRate       = 1000 // requests a second at which lag counts
	goalLag        = 1000 // µs
	goalShare      = 0.9  // of what vegeta and ghz do in a CPU-second
	goalResults    = 1_000_000
	goalResident   = 150 << 20
	goalLines      = 10_000_000
	goalLineRate   = 300_000 // lines a second
	goalImportSize = 64 << 20
)

// judge holds what was measured against the goals.
func (r *report) judge() {
	for _, l := range r.Lags {
		if l.Rate == goalRate && !l.Highest {
			r.Goals.Add(l.LagP99 <= goalLag && l.Held, fmt.Sprintf("%s at %d/s: lag p99 at most 1 ms", l.Protocol, goalRate), "%s ms", inMs(l.LagP99))
		}
	}
	for _, pair := range [][2]string{{ourHTTP, vegetas}, {ourGRPC, ghzs}} {
		own, other := r.rival(pair[0]), r.rival(pair[1])
		if own == nil || other == nil || other.perCPU() == 0 {
			continue
		}
		share := own.perCPU() / other.perCPU()
		r.Goals.Add(share >= goalShare, fmt.Sprintf("requests per CPU-second at least %.1f × %s's", goalShare, other.Name),
			"%.2f × (%.0f and %.0f)", share, own.perCPU(), other.perCPU())
	}
	if n := len(r.Memory); n > 0 {
		m := r.Memory[n-1]
		r.Goals.Add(m.Results >= goalResults && m.Resident <= goalResident, fmt.Sprintf("%d results: at most 150 MiB resident", goalResults),
			"%.1f MiB after %d", sheet.MiB(m.Resident), m.Results)
	}
	if i := r.Import; i != nil {
		r.Goals.Add(i.Lines >= goalLines && i.perSecond() >= goalLineRate, fmt.Sprintf("%d lines imported, at least %d a second", goalLines, goalLineRate),
			"%.0f a second, %d lines", i.perSecond(), i.Lines)
		r.Goals.Add(i.Lines >= goalLines && i.Resident <= goalImportSize, fmt.Sprintf("%d lines imported: at most 64 MiB resident", goalLines),
			"%.1f MiB, after %.1f MiB for a moment at the program's start", sheet.MiB(i.Resident), sheet.MiB(i.Start))
	}
}

// writeTables writes the report for people.
func (r *report) writeTables(out io.Writer) error {
	fmt.Fprintf(out, "%d cores, kernel %s, %s, begun %s, took %s\n\n", r.Host.Cores, r.Host.Kernel, r.Host.Go,
		r.Begun.UTC().Format(time.RFC3339), r.Took)
	if r.Quick {
		fmt.Fprint(out, "A quick run: too short to conclude from.\n\n")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.Lags) > 0 {
		fmt.Fprintln(w, "dispatch lag\trate/s\trequests\tfailed\tnot sent\tp50 ms\tp99 ms\tmax ms\tlatency p50\tp99\tCPU s\t")
	}
	for _, l := range r.Lags {
		rate := fmt.Sprintf("%.0f", l.Rate)
		if l.Highest {
			rate += ", the highest held"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%.2f\t\n", l.Protocol, rate, l.Requests, l.Failed, l.NotSent,
			inMs(l.LagP50), inMs(l.LagP99), inMs(l.LagMax), inMs(l.P50), inMs(l.P99), l.CPU)
	}
	if len(r.Rivals) > 0 {
		fmt.Fprintln(w, "\nrequests per CPU-second\tanswered\tCPU s\tin all\tby turns\t")
	}
	for _, one := range r.Rivals {
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%.0f\t%.0f\t\n", one.Name, one.Answered, one.CPU, one.perCPU(), one.Turns)
	}
	if len(r.Memory) > 0 {
		fmt.Fprintln(w, "\nresults kept\trate/s\tMiB resident\tof that the program\tCPU s\t")
	}
	for _, m := range r.Memory {
		fmt.Fprintf(w, "%d\t%.0f\t%.1f\t%.1f\t%.1f\t\n", m.Results, m.Rate, sheet.MiB(m.Resident), sheet.MiB(m.File), m.CPU)
	}
	if i := r.Import; i != nil {
		fmt.Fprintln(w, "\nlines imported\tseconds\tlines/s\tlines/CPU-second\tMiB resident\tof that the program\tat the start\t")
		fmt.Fprintf(w, "%d\t%.1f\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f\t\n", i.Lines, i.Took.Seconds(), i.perSecond(),
			float64(i.Lines)/max(i.CPU, 1e-9), sheet.MiB(i.Resident), sheet.MiB(i.File), sheet.MiB(i.Start))
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	r.Goals.Write(out)
	return nil
}

func inMs(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }

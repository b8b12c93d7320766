package main

import (
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is all that one run found; its JSON is what -json writes.
type report struct {
	Host     host      `json:"host"`
	Begun    time.Time `json:"begun"`
	Requests int       `json:"requests"` // of each run, as asked for
	Runs     []figures `json:"runs"`
	Goals    []goal    `json:"goals"`
}

type host struct {
	Cores  int     `json:"cores"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	Load   float64 `json:"load"` // average of the last minute, when it began
}

// figures are what judging and reporting one run took.
type figures struct {
	Kind       string  `json:"kind"`
	Requests   int64   `json:"requests"`
	Failed     int64   `json:"failed"`
	Bytes      int64   `json:"bytes"` // of evidence
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"`
	PeakBytes  int64   `json:"peakBytes"` // resident, at the most
}

// goal is one of those that judging was built to.
type goal struct {
	Goal     string `json:"goal"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

// The goals, for 5 million requests on two cores.
const (
	goalRequests = 5_000_000
	goalSeconds  = 30
	goalPeak     = 300 << 20
)

func (r *report) judge() {
	for _, f := range r.Runs {
		enough, short := f.Requests >= goalRequests/phases*phases, ""
		if !enough {
			short = ", of too few requests"
		}
		r.Goals = append(r.Goals,
			goal{f.Kind + ": at most 30 s", fmt.Sprintf("%.1f s%s", f.Seconds, short), enough && f.Seconds <= goalSeconds},
			goal{f.Kind + ": at most 300 MiB resident", fmt.Sprintf("%.0f MiB%s", inMiB(f.PeakBytes), short), enough && f.PeakBytes <= goalPeak})
	}
}

// table writes the report for people.
func (r *report) table(out io.Writer) error {
	fmt.Fprintf(out, "%d cores, kernel %s, %s, load %.1f, begun %s\n\n", r.Host.Cores, r.Host.Kernel, r.Host.Go, r.Host.Load, r.Begun.Format(time.RFC3339))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "run\trequests\tfailed\tevidence MiB\tseconds\tCPU seconds\tpeak MiB\t")
	for _, f := range r.Runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.1f\t%.1f\t%.0f\t\n", f.Kind, f.Requests, f.Failed, inMiB(f.Bytes), f.Seconds, f.CPUSeconds, inMiB(f.PeakBytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, g := range r.Goals {
		met := "missed"
		if g.Met {
			met = "met"
		}
		fmt.Fprintf(out, "%-6s  %s: %s\n", met, g.Goal, g.Measured)
	}
	return nil
}

func inMiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// thisHost says where it was measured.
func thisHost() host {
	h := host{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.Load = float64(info.Loads[0]) / (1 << 16)
	}
	return h
}

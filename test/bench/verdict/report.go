package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/test/bench/sheet"
)

// report is all that one run found; its JSON is what -json writes.
type report struct {
	Host     host        `json:"host"`
	Begun    time.Time   `json:"begun"`
	Requests int         `json:"requests"` // of each run, as asked for
	Runs     []figures   `json:"runs"`
	Goals    sheet.Goals `json:"goals"`
}

type host struct {
	sheet.Host
	Load float64 `json:"load"` // average of the last minute, when it began
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
		r.Goals.Add(enough && f.Seconds <= goalSeconds, f.Kind+": at most 30 s", "%.1f s%s", f.Seconds, short)
		r.Goals.Add(enough && f.PeakBytes <= goalPeak, f.Kind+": at most 300 MiB resident", "%.0f MiB%s", sheet.MiB(f.PeakBytes), short)
	}
}

// table writes the report for people.
func (r *report) table(out io.Writer) error {
	fmt.Fprintf(out, "%d cores, kernel %s, %s, load %.1f, begun %s\n\n", r.Host.Cores, r.Host.Kernel, r.Host.Go, r.Host.Load, r.Begun.Format(time.RFC3339))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "run\trequests\tfailed\tevidence MiB\tseconds\tCPU seconds\tpeak MiB\t")
	for _, f := range r.Runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.1f\t%.1f\t%.0f\t\n", f.Kind, f.Requests, f.Failed, sheet.MiB(f.Bytes), f.Seconds, f.CPUSeconds, sheet.MiB(f.PeakBytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	r.Goals.Write(out)
	return nil
}

// thisHost says where it was measured.
func thisHost() host {
	h := host{Host: sheet.ThisHost()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.Load = float64(info.Loads[0]) / (1 << 16)
	}
	return h
}

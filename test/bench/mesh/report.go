package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// report is all that one run found; its JSON is what -json writes.
type report struct {
	Host       host          `json:"host"`
	Begun      time.Time     `json:"begun"`
	Took       string        `json:"took"`
	Quick      bool          `json:"quick"` // too short to conclude from
	Cells      []figures     `json:"cells"`
	Added      []added       `json:"added"`
	Handshakes []handshakes  `json:"handshakes"`
	Bulk       []bulkFigures `json:"bodies"`
	Crowd      crowdFigures  `json:"memory"`
	Goals      sheet.Goals   `json:"goals"`
}

type host struct {
	sheet.Host
	Nginx bool `json:"nginx"` // was there to be measured
}

// figures are one path's in one cell. Times are from the scheduled instant.
type figures struct {
	Protocol echo.Protocol  `json:"protocol"`
	Rate     float64        `json:"rate"` // requests a second
	Path     string         `json:"path"`
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Errors   map[string]int `json:"errors,omitempty"`
	Late     int            `json:"late"` // left more than 10 ms after their instant
	P50      int64          `json:"p50Us"`
	P99      int64          `json:"p99Us"`
	P999     int64          `json:"p999Us"`
	Max      int64          `json:"maxUs"`
	LagP50   int64          `json:"lagP50Us"` // from the instant to the sending
	LagP99   int64          `json:"lagP99Us"`
	FrontCPU float64        `json:"frontCpuMsPer1000"`
	BackCPU  float64        `json:"backCpuMsPer1000"`
}

func (t *tally) figures(c cell, path string) figures {
	h := t.latency
	return figures{
		Protocol: c.protocol, Rate: c.rate, Path: path,
		Requests: t.sent, Failed: t.failures(), Errors: t.failed, Late: t.late,
		P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max(),
		LagP50: t.lag.ValueAtQuantile(50), LagP99: t.lag.ValueAtQuantile(99),
	}
}

// added is what a path takes longer than the plain one, in µs; of the second
// plain path it is what noise alone makes.
type added struct {
	Protocol echo.Protocol `json:"protocol"`
	Rate     float64       `json:"rate"`
	Path     string        `json:"path"`
	P50      int64         `json:"p50Us"`
	P99      int64         `json:"p99Us"`
	P999     int64         `json:"p999Us"`
}

// addedOf compares the paths of one cell; the first is plain.
func addedOf(cell []figures) []added {
	var all []added
	for _, f := range cell[1:] {
		plain := cell[0]
		all = append(all, added{f.Protocol, f.Rate, f.Path, f.P50 - plain.P50, f.P99 - plain.P99, f.P999 - plain.P999})
	}
	return all
}

// handshakes are those of one pair.
type handshakes struct {
	Path       string  `json:"path"`
	Handshakes int     `json:"handshakes"`
	Failed     int     `json:"failed"`
	PerSecond  float64 `json:"perSecond"`
	FrontCPU   float64 `json:"frontCpuMsPer1000"`
	BackCPU    float64 `json:"backCpuMsPer1000"`

	took, front, back time.Duration
}

func (h *handshakes) finish() {
	if h.took > 0 {
		h.PerSecond = float64(h.Handshakes) / h.took.Seconds()
	}
	h.FrontCPU, h.BackCPU = per1000(h.front, h.Handshakes), per1000(h.back, h.Handshakes)
}

// crowdFigures are the memory of the two proxies.
type crowdFigures struct {
	Endpoints int            `json:"endpoints"` // of the front; clients of the back
	Rate      float64        `json:"rate"`
	Requests  int            `json:"requests"`
	Failed    int            `json:"failed"`
	Errors    map[string]int `json:"errors,omitempty"`

	Front residence `json:"front"`
	Back  residence `json:"back"`

	err error
}

// residence is what of a process is in memory, in bytes.
type residence struct {
	Bytes int64 `json:"bytes"` // the most that was meanwhile
	File  int64 `json:"file"`  // of that, pages of the program's file, which all its processes share
	Peak  int64 `json:"peak"`  // the most of the whole run
}

// The goals, per pair of proxies and per proxy.
const (
	goalRate      = 200  // requests a second at which added latency counts
	goalP50       = 500  // µs
	goalP99       = 3000 // µs
	goalHeld      = 2000 // requests a second without an error
	goalResident  = 25 << 20
	microsPerMsec = 1000.0
)

// judge holds what was measured against the goals.
func (r *report) judge() {
	for _, a := range r.Added {
		if a.Path != pathMesh || a.Rate != goalRate {
			continue
		}
		at := fmt.Sprintf("%s at %d/s: added ", a.Protocol, goalRate)
		r.Goals.Add(a.P50 <= goalP50, at+"p50 at most 0.5 ms", "%s", micros(a.P50))
		r.Goals.Add(a.P99 <= goalP99, at+"p99 at most 3 ms", "%s", micros(a.P99))
	}
	for _, f := range r.Cells {
		if f.Path == pathMesh && f.Rate == goalHeld {
			r.Goals.Add(f.Failed == 0 && f.Requests > 0, fmt.Sprintf("%s at %d/s without an error", f.Protocol, goalHeld),
				"%d of %d failed", f.Failed, f.Requests)
		}
	}
	if r.Crowd.Requests > 0 {
		r.resident(fmt.Sprintf("client's proxy with %d endpoints", r.Crowd.Endpoints), r.Crowd.Front.Bytes)
		r.resident(fmt.Sprintf("server's proxy with %d clients", r.Crowd.Endpoints), r.Crowd.Back.Bytes)
	}
}

func (r *report) resident(who string, bytes int64) {
	r.Goals.Add(bytes > 0 && bytes <= goalResident, who+": at most 25 MiB resident", "%.1f MiB", sheet.MiB(bytes))
}

func micros(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/microsPerMsec) }

// writeTables writes the report for people.
func (r *report) writeTables(out io.Writer) error {
	fmt.Fprintf(out, "%d cores, kernel %s, %s, begun %s, took %s\n\n", r.Host.Cores, r.Host.Kernel, r.Host.Go,
		r.Begun.UTC().Format(time.RFC3339), r.Took)
	if r.Quick {
		fmt.Fprint(out, "A quick run: too short to conclude from.\n\n")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "protocol\trate/s\tpath\trequests\tfailed\tlate\tp50 ms\tp99 ms\tp99.9 ms\tadded p50\tp99\tp99.9\tCPU ms/1,000 front\tback\t")
	for _, f := range r.Cells {
		fmt.Fprintf(w, "%s\t%.0f\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t", f.Protocol, f.Rate, f.Path, f.Requests, f.Failed, f.Late,
			inMs(f.P50), inMs(f.P99), inMs(f.P999))
		i := slices.IndexFunc(r.Added, func(a added) bool {
			return a.Protocol == f.Protocol && a.Rate == f.Rate && a.Path == f.Path
		})
		if i < 0 {
			fmt.Fprint(w, "\t\t\t\t\t\n")
			continue
		}
		a := r.Added[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t", signed(a.P50), signed(a.P99), signed(a.P999))
		if f.FrontCPU == 0 {
			fmt.Fprint(w, "\t\t\n")
			continue
		}
		fmt.Fprintf(w, "%.0f\t%.0f\t\n", f.FrontCPU, f.BackCPU)
	}
	if len(r.Handshakes) > 0 {
		fmt.Fprintln(w, "\nhandshakes of a pair\t/s\tfailed\tCPU ms/1,000 front\tback\t")
	}
	for _, h := range r.Handshakes {
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%.0f\t%.0f\t\n", h.Path, h.PerSecond, h.Failed, h.FrontCPU, h.BackCPU)
	}
	if len(r.Bulk) > 0 {
		fmt.Fprintln(w, "\nlarge bodies\tof\tpath\tMiB/s\t")
	}
	for _, b := range r.Bulk {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f\t\n", b.Protocol, b.Body, b.Path, b.MiBPerSecond)
	}
	if c := r.Crowd; c.Requests > 0 {
		fmt.Fprintln(w, "\nMiB resident\tmeanwhile\tof that the program\tpeak of the run\t")
		for _, m := range []struct {
			who string
			residence
		}{{"client's proxy, %d endpoints", c.Front}, {"server's proxy, %d clients", c.Back}} {
			fmt.Fprintf(w, m.who+"\t%.1f\t%.1f\t%.1f\t\n", c.Endpoints, sheet.MiB(m.Bytes), sheet.MiB(m.File), sheet.MiB(m.Peak))
		}
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	r.Goals.Write(out)
	return nil
}

func inMs(us int64) string { return fmt.Sprintf("%.2f", float64(us)/microsPerMsec) }

func signed(us int64) string { return fmt.Sprintf("%+.2f", float64(us)/microsPerMsec) }

package report

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"meshsim.dev/meshsim/results"
)

// Certificate is one certificate that was seen during the run.
type Certificate struct {
	Name      string    `json:"name"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter"`
	Renewal   time.Time `json:"renewal,omitzero"`
	Detail    string    `json:"detail,omitempty"`
}

// firstLeaf is the name of the certificate of which the proxies tell the end only.
const firstLeaf = "first proxy's leaf to end"

// maxCertificates is how many are drawn.
const maxCertificates = 60

// certificatesOf reads the certificates of an observation; most have none.
func certificatesOf(p results.Probe) []Certificate {
	switch p.Probe {
	case results.ProbeIssuer:
		var seen results.Issuer
		if json.Unmarshal(p.Data, &seen) != nil || seen.NotAfter.IsZero() {
			return nil
		}
		return []Certificate{{
			Name: "mesh issuer", NotBefore: seen.NotBefore, NotAfter: seen.NotAfter, Renewal: seen.RenewalTime,
			Detail: fmt.Sprintf("%s %s", seen.KeyAlgorithm, seen.Curve),
		}}
	case results.ProbeLeaves:
		var seen results.Leaves
		if json.Unmarshal(p.Data, &seen) != nil || seen.Earliest.IsZero() {
			return nil
		}
		return []Certificate{{Name: firstLeaf, NotAfter: seen.Earliest, Detail: fmt.Sprintf("of %d proxies", seen.Proxies)}}
	case results.ProbeIdentity:
		var seen results.Identity
		if json.Unmarshal(p.Data, &seen) != nil {
			return nil
		}
		var all []Certificate
		for _, c := range seen.Presented[:min(len(seen.Presented), maxCertificates)] {
			if !c.Until.IsZero() {
				all = append(all, Certificate{Name: c.Pod, NotBefore: c.From, NotAfter: c.Until, Detail: c.Identity})
			}
		}
		return all
	}
	return nil
}

// axis is certificates over time. What matters lies between minutes and years,
// so time is spread by its logarithm, away from the run's start to both sides.
type axis struct {
	Width, Height int
	Left, Right   int
	Bottom        string
	Now           string
	RunEnd        string
	Ticks         []chartTick
	Rows          []axisRow
}

type axisRow struct {
	Name, Y, TextY string
	X, Wide        string
	Renewal        string // "" when there is none
	Open           bool   // its beginning is not known
	Ended          bool   // before the run was over
	Title          string
	Words          string
}

const (
	axisWidth, axisLeft, axisRight = 1000, 210, 985
	axisRow0, axisRowTall          = 34, 24
	axisUnit                       = float64(10 * time.Minute)
)

func newAxis(d Data) *axis {
	if len(d.Certificates) == 0 || d.Run.StartedAt.IsZero() {
		return nil
	}
	began := d.Run.StartedAt
	spread := func(at time.Time) float64 {
		away := float64(at.Sub(began))
		return math.Copysign(math.Log10(1+math.Abs(away)/axisUnit), away)
	}
	lo, hi := 0.0, spread(began.Add(max(d.duration(), time.Minute)))
	for _, c := range d.Certificates {
		hi = max(hi, spread(c.NotAfter))
		if !c.NotBefore.IsZero() {
			lo = min(lo, spread(c.NotBefore))
		}
	}
	lo, hi = lo-0.3, hi+0.2
	x := func(at time.Time) float64 { return axisLeft + (spread(at)-lo)/(hi-lo)*(axisRight-axisLeft) }
	a := &axis{Width: axisWidth, Left: axisLeft, Right: axisRight, Now: num(x(began)), RunEnd: num(x(began.Add(d.duration())))}
	day := 24 * time.Hour
	last := math.Inf(-1)
	for _, t := range []struct {
		away time.Duration
		name string
	}{
		{-365 * day, "1 year before"}, {-30 * day, "30 days before"}, {-day, "1 day before"}, {0, "run"}, {time.Hour, "1 h"}, {6 * time.Hour, "6 h"},
		{day, "1 day"}, {7 * day, "7 days"}, {30 * day, "30 days"}, {90 * day, "90 days"}, {365 * day, "1 year"}, {3650 * day, "10 years"},
	} {
		if at := x(began.Add(t.away)); at >= axisLeft && at <= axisRight && at-last > 52 {
			a.Ticks = append(a.Ticks, chartTick{At: num(at), Label: t.name})
			last = at
		}
	}
	ended := began.Add(d.duration())
	for i, c := range d.Certificates[:min(len(d.Certificates), maxCertificates)] {
		a.Rows = append(a.Rows, certificateRow(c, i, began, ended, x))
	}
	a.Height = axisRow0 + len(a.Rows)*axisRowTall + 8
	a.Bottom = num(float64(a.Height - 6))
	return a
}

func certificateRow(c Certificate, i int, began, ended time.Time, x func(time.Time) float64) axisRow {
	top := axisRow0 + i*axisRowTall
	r := axisRow{Name: shorten(c.Name, 32), Y: num(float64(top)), TextY: num(float64(top + 12)), Open: c.NotBefore.IsZero(), Ended: c.NotAfter.Before(ended)}
	from := c.NotBefore
	if r.Open {
		from = began
	}
	left, right := min(x(from), x(c.NotAfter)), max(x(from), x(c.NotAfter))
	r.X, r.Wide = num(left), num(max(right-left, 2))
	const form = "2006-01-02 15:04 MST"
	r.Words = "ends " + c.NotAfter.UTC().Format(form)
	if !r.Open {
		r.Words = "from " + c.NotBefore.UTC().Format(form) + ", " + r.Words
	}
	if !c.Renewal.IsZero() {
		r.Renewal = num(x(c.Renewal))
		r.Words += ", renewed from " + c.Renewal.UTC().Format(form)
	}
	if c.Detail != "" {
		r.Words += ", " + c.Detail
	}
	r.Title = c.Name + ": " + r.Words
	return r
}

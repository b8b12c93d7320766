// Package plot draws how much traffic there is meant to be: in a terminal, as
// SVG and as JSON.
package plot

import (
	"time"

	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// Figure is a shape over some time, worked out.
type Figure struct {
	Name   string        `json:"name"`
	Shape  string        `json:"shape"` // in words
	Lasts  time.Duration `json:"lastsNs"`
	Faster float64       `json:"faster"` // than in the real shop time goes by

	Requests float64       `json:"requests"` // expected in all
	Mean     float64       `json:"mean"`     // requests a second, as sent
	Peak     float64       `json:"peak"`     // the same
	PeakAt   time.Duration `json:"peakAtNs"`
	// RealMean and RealPeak are what the shop itself would see, a day.
	RealMean float64 `json:"realMeanPerDay"`
	RealPeak float64 `json:"realPeakPerDay"`

	Phases  []Phase  `json:"phases,omitempty"`
	Samples []Sample `json:"samples"`

	parts []part
}

// Phase is one phase of a scenario, as if its steps took no time.
type Phase struct {
	Name     string        `json:"name"`
	Judged   bool          `json:"judged"`
	Scale    float64       `json:"scale"`
	From     time.Duration `json:"fromNs"`
	Lasts    time.Duration `json:"lastsNs"`
	Requests float64       `json:"requests"` // expected
	Mean     float64       `json:"mean"`     // requests a second, as sent
	Peak     float64       `json:"peak"`
	RealMean float64       `json:"realMeanPerDay"` // in the shop itself
}

// Sample is the mean rate of one of many equal parts.
type Sample struct {
	From time.Duration `json:"atNs"`
	Rate float64       `json:"rate"` // requests a second, as sent
}

// part is a stretch with a shape of its own.
type part struct {
	from, to time.Duration
	shape    shape.Shape
}

const (
	samples = 240
	day     = 24 * time.Hour
)

// OfScenario returns the figure of a scenario's phases, one after another, each
// as long as it waits for requests and time.
func OfScenario(s *scenarios.Scenario) Figure {
	t, plan := s.Spec.Traffic, s.Plan()
	f := Figure{Name: s.Metadata.Name, Shape: t.Rates().String(), Faster: t.Faster()}
	for i, p := range plan.Phases {
		from, to := p.From, plan.Ends
		if i+1 < len(plan.Phases) {
			to = plan.Phases[i+1].From
		}
		f.add(p.Name, p.Judged, s.Spec.Phases[i].Scale, t.Rates(), from, to)
	}
	f.finish()
	return f
}

// OfShape returns the figure of a shape for so long.
func OfShape(name string, s shape.Shape, faster float64, lasts time.Duration) Figure {
	f := Figure{Name: name, Shape: s.String(), Faster: faster}
	f.add("", true, 1, s, 0, lasts)
	f.Phases = nil
	f.finish()
	return f
}

func (f *Figure) add(name string, judged bool, scale float64, rates shape.Shape, from, to time.Duration) {
	scaled := shape.Scale(rates, scale)
	p := Phase{Name: name, Judged: judged, Scale: scale, From: from, Lasts: to - from, Requests: scaled.Count(from, to)}
	if p.Lasts > 0 {
		p.Mean = p.Requests / p.Lasts.Seconds()
	}
	at, peak := shape.PeakOf(scaled, from, to)
	p.Peak, p.RealMean = peak, f.real(p.Mean)
	if peak > f.Peak {
		f.Peak, f.PeakAt = peak, at
	}
	f.Phases = append(f.Phases, p)
	f.parts = append(f.parts, part{from, to, scaled})
	f.Requests += p.Requests
	f.Lasts = to
}

// real is what a rate that is sent is in the shop itself, in requests a day.
func (f *Figure) real(rate float64) float64 { return rate / f.Faster * day.Seconds() }

func (f *Figure) finish() {
	if f.Lasts > 0 {
		f.Mean = f.Requests / f.Lasts.Seconds()
	}
	f.RealMean, f.RealPeak = f.real(f.Mean), f.real(f.Peak)
	for i, rate := range f.columns(samples) {
		f.Samples = append(f.Samples, Sample{f.at(i, samples), rate})
	}
}

// at is where one of n equal parts begins.
func (f *Figure) at(i, n int) time.Duration {
	return time.Duration(float64(f.Lasts) * float64(i) / float64(n))
}

// columns returns the mean rates of n equal parts.
func (f *Figure) columns(n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		from, to := f.at(i, n), f.at(i+1, n)
		if from == to {
			continue
		}
		for _, p := range f.parts {
			if a, b := max(from, p.from), min(to, p.to); a < b {
				all[i] += p.shape.Count(a, b) / (to - from).Seconds()
			}
		}
	}
	return all
}

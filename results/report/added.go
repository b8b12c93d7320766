package report

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"meshsim.dev/meshsim/results"
)

// Added is the distribution of one measurement of the twins: the samples
// themselves stay in the record.
type Added struct {
	Phase        string        `json:"phase"`
	PayloadBytes int           `json:"payloadBytes"`
	PerHop       bool          `json:"perHop"`
	Path         string        `json:"path,omitempty"` // of a request
	Triples      int           `json:"triples"`
	Points       []AddedSample `json:"points"` // ascending in Quantile
}

// AddedSample is one percentile of each twin, in milliseconds.
type AddedSample struct {
	Quantile             float64 `json:"q"`
	Plain, Meshed, Again float64
}

// addedQuantiles are those that are drawn: closer together towards the tail.
var addedQuantiles = []float64{
	0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999,
}

func addedOf(p results.Probe) (Added, error) {
	var seen results.AddedLatency
	if err := json.Unmarshal(p.Data, &seen); err != nil {
		return Added{}, err
	}
	a := Added{Phase: p.Phase, PayloadBytes: seen.PayloadBytes, PerHop: seen.PerHop, Path: seen.Path, Triples: len(seen.Samples.Plain)}
	if a.Triples == 0 || len(seen.Samples.Meshed) == 0 || len(seen.Samples.PlainAgain) == 0 {
		return a, nil
	}
	plain, meshed, again := slices.Sorted(slices.Values(seen.Samples.Plain)), slices.Sorted(slices.Values(seen.Samples.Meshed)), slices.Sorted(slices.Values(seen.Samples.PlainAgain))
	for _, q := range addedQuantiles {
		if float64(a.Triples)*(1-q) < 1 { // no sample lies beyond it
			break
		}
		a.Points = append(a.Points, AddedSample{Quantile: q, Plain: rank(plain, q), Meshed: rank(meshed, q), Again: rank(again, q)})
	}
	return a, nil
}

// rank returns the nearest-rank percentile of ascending samples.
func rank(ascending []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(ascending)))) - 1
	return ascending[min(max(i, 0), len(ascending)-1)]
}

// addedView is one measurement, drawn as percentiles of each twin.
type addedView struct {
	Title, Beneath       string
	Plain, Meshed, Again string // SVG paths
	YTicks, XTicks       []chartTick
	Rows                 []addedRow
	Width, Height        int
	Left, Right          int
	Top, Bottom          int
}

type addedRow struct {
	Name                        string
	Plain, Meshed, Added, Noise float64
}

const (
	addedWidth, addedHeight  = 640, 240
	addedLeft, addedRight    = 46, 628
	addedTop, addedBottom    = 12, 208
	addedShown, addedDecades = 5, 3.1
)

func newAddedView(a Added) (addedView, bool) {
	v := addedView{
		Title: fmt.Sprintf("%d bytes, per hop", a.PayloadBytes), Width: addedWidth, Height: addedHeight,
		Left: addedLeft, Right: addedRight, Top: addedTop, Bottom: addedBottom,
	}
	switch {
	case a.Path != "":
		v.Title = a.Path + ", per request"
	case !a.PerHop:
		v.Title = fmt.Sprintf("%d bytes, per request", a.PayloadBytes)
	}
	v.Beneath = fmt.Sprintf("%s interleaved triples in %s", count(int64(a.Triples)), orUnknown(a.Phase))
	if len(a.Points) < 2 {
		return v, false
	}
	highest := 0.0
	for _, p := range a.Points {
		highest = max(highest, p.Plain, p.Meshed, p.Again)
	}
	highest *= 1.05
	if !(highest > 0) || math.IsInf(highest, 0) {
		return v, false
	}
	// The tail is what is judged, so percentiles are spread by their distance
	// from 100.
	x := func(q float64) float64 {
		return addedLeft + (-math.Log10(1-q))/addedDecades*(addedRight-addedLeft)
	}
	y := func(v float64) float64 { return addedBottom - max(v, 0)/highest*(addedBottom-addedTop) }
	draw := func(of func(AddedSample) float64) string {
		var b strings.Builder
		for i, p := range a.Points {
			fmt.Fprintf(&b, "%s%s %s", map[bool]string{true: "M", false: "L"}[i == 0], num(x(p.Quantile)), num(y(of(p))))
		}
		return b.String()
	}
	v.Plain = draw(func(p AddedSample) float64 { return p.Plain })
	v.Meshed = draw(func(p AddedSample) float64 { return p.Meshed })
	v.Again = draw(func(p AddedSample) float64 { return p.Again })
	for i := range addedShown {
		at := highest * float64(i) / (addedShown - 1)
		v.YTicks = append(v.YTicks, chartTick{At: num(y(at)), Label: fmt.Sprintf("%.3g", at)})
	}
	for _, q := range []float64{0.1, 0.5, 0.9, 0.99, 0.999} {
		v.XTicks = append(v.XTicks, chartTick{At: num(x(q)), Label: fmt.Sprintf("p%g", 100*q)})
	}
	for _, p := range a.Points {
		if slices.Contains([]float64{0.5, 0.9, 0.95, 0.99, 0.999}, p.Quantile) {
			v.Rows = append(v.Rows, addedRow{fmt.Sprintf("p%g", 100*p.Quantile), p.Plain, p.Meshed, p.Meshed - p.Plain, p.Again - p.Plain})
		}
	}
	return v, true
}

// signedMillis writes a difference in milliseconds.
func signedMillis(v float64) string {
	if v < 0 {
		return fmt.Sprintf("−%.2f", -v)
	}
	return fmt.Sprintf("+%.2f", v)
}

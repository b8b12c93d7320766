package plot

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed figure.svg.tmpl
var drawing string

var figureTemplate = template.Must(template.New("figure").Parse(drawing))

// The picture's measures, in its own units.
const (
	svgWidth   = 1000
	svgLeft    = 62
	svgRight   = 922
	svgTop     = 64
	svgBottom  = 300
	svgColumns = 215
	svgLetter  = 7.2 // width of a character of a phase's name
)

// picture is the figure worked out to coordinates.
type picture struct {
	Name, Shape, Summary string
	Width, Height        int
	Left, Right          int
	Top, Bottom          int
	Tall, Tick           int    // the plot's height, and how far a mark of time goes
	Area, Line           string // SVG paths
	Phases               []svgPhase
	Rates, Times         []svgTick
}

type svgPhase struct {
	X, Width, Middle string
	Name, Requests   string
	ShowName         bool
	ShowRequests     bool
	Even             bool
	Tip              string
}

type svgTick struct{ At, Label, Real string }

// SVG draws the figure as a picture that stands by itself, light or dark as its
// reader likes.
func (f Figure) SVG(w io.Writer) error {
	p := picture{
		Name: f.Name, Shape: f.Shape, Summary: f.summary(), Width: svgWidth, Height: svgBottom + 70,
		Left: svgLeft, Right: svgRight, Top: svgTop, Bottom: svgBottom,
		Tall: svgBottom - svgTop, Tick: svgBottom + 5,
	}
	high := top(f.Peak)
	x := func(share float64) float64 { return svgLeft + share*(svgRight-svgLeft) }
	y := func(rate float64) float64 { return svgBottom - rate/high*(svgBottom-svgTop) }
	p.draw(f.columns(svgColumns), x, y)
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		p.Rates = append(p.Rates, svgTick{num(y(share * high)), rate(share * high), count(f.real(share * high))})
	}
	if f.Lasts > 0 {
		for _, at := range ticks(f.Lasts, 12) {
			p.Times = append(p.Times, svgTick{At: num(x(float64(at) / float64(f.Lasts))), Label: clock(at)})
		}
		p.phases(f, x)
	}
	if err := figureTemplate.Execute(w, p); err != nil {
		return fmt.Errorf("draw %s: %w", f.Name, err)
	}
	return nil
}

// draw makes the line, a step a column, and the area below it.
func (p *picture) draw(columns []float64, x, y func(float64) float64) {
	var line strings.Builder
	for i, rate := range columns {
		command := "L"
		if i == 0 {
			command = "M"
		}
		middle := (float64(i) + 0.5) / float64(len(columns))
		fmt.Fprintf(&line, "%s%s %s", command, num(x(middle)), num(y(rate)))
	}
	p.Line = line.String()
	p.Area = fmt.Sprintf("%sL%s %dL%s %dZ", p.Line, num(x(1-0.5/float64(len(columns)))), svgBottom, num(x(0.5/float64(len(columns)))), svgBottom)
}

func (p *picture) phases(f Figure, x func(float64) float64) {
	for i, one := range f.Phases {
		from, to := x(float64(one.From)/float64(f.Lasts)), x(float64(one.From+one.Lasts)/float64(f.Lasts))
		requests := count(one.Requests)
		p.Phases = append(p.Phases, svgPhase{
			X: num(from), Width: num(to - from), Middle: num((from + to) / 2), Name: one.Name, Requests: requests,
			ShowName:     svgLetter*float64(len([]rune(one.Name))) < to-from,
			ShowRequests: svgLetter*float64(len(requests)) < to-from,
			Even:         i%2 == 0,
			Tip: fmt.Sprintf("%s, from %s for %s: %s requests expected at scale %.4g, %s a second on average, %s at most; %s a day in the shop",
				one.Name, clock(one.From), clock(one.Lasts), requests, one.Scale, rate(one.Mean), rate(one.Peak), count(one.RealMean)),
		})
	}
}

func num(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

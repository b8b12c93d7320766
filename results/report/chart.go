package report

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// chart is the run over time, worked out to coordinates: latency above, requests
// and failures below it, the steps beneath.
type chart struct {
	Width, Height   int
	Left, Right     int // of the plots
	LatencyTop      int
	LatencyBottom   int
	RequestsTop     int
	RequestsBottom  int
	Phases          []chartBand
	LatencyTicks    []chartTick
	RequestTicks    []chartTick
	TimeTicks       []chartTick
	P50, P99        []string // SVG paths; more than one where there are gaps
	Heat            []string // SVG paths, the faintest shade first
	Limit           *chartTick
	Bars            []chartBar
	Steps           []chartStep
	StepsTop        int
	Marks           []chartMark // what happened in the cluster
	MarkRows        []chartTick // their kinds
	EndMs           int64
	BucketMs        int64
	PlotWidth       int
	Hovers          []chartHover
	Failed          bool
	RateMax, Bucket string
}

type chartBand struct {
	X, Width  string
	From, To  int64 // ms
	Middle    string
	Name      string
	ShowName  bool
	Even      bool
	Judged    bool
	TitleText string
}

type chartTick struct {
	At, Label string
	Ms        int64
}

// chartBar is one bucket's requests; the failed part stands below the good one.
type chartBar struct {
	X, Width           string
	GoodTop, GoodTall  string
	FailTop, FailTall  string
	HasGood, HasFailed bool
}

type chartStep struct {
	X, Width, Y, TextX, TextY string
	From, To                  int64 // ms
	Anchor                    string
	Words                     string
	Failed                    bool
	TitleText                 string
}

type chartHover struct{ X, Width, Text string }

const (
	chartWidth     = 1000
	chartLeft      = 76
	chartRight     = 984
	latencyTop     = 34
	latencyBottom  = 214
	requestsTop    = 240
	requestsBottom = 330
	marksTop       = 360
	markHeight     = 16
	stepHeight     = 22
	letter         = 6.3 // width of a character at the chart's font size
)

// newChart returns nil when there is nothing to draw.
func newChart(d Data) *chart {
	line := d.Verdict.Timeline
	if len(line.Buckets) == 0 || line.BucketMs <= 0 {
		return nil
	}
	c := &chart{
		Width: chartWidth, Left: chartLeft, Right: chartRight, LatencyTop: latencyTop, LatencyBottom: latencyBottom,
		RequestsTop: requestsTop, RequestsBottom: requestsBottom, EndMs: int64(len(line.Buckets)) * line.BucketMs,
		BucketMs: line.BucketMs, PlotWidth: chartRight - chartLeft,
	}
	end := c.EndMs
	x := func(ms int64) float64 {
		return chartLeft + float64(min(max(ms, 0), end))/float64(end)*(chartRight-chartLeft)
	}
	c.bands(d.Verdict.Phases, end, x)
	c.times(end, x)
	c.latency(d, x)
	c.requests(line, x)
	c.hovers(line, x)
	c.StepsTop = marksTop + c.marks(d.Events, line.BucketMs, end, x)*markHeight + 6
	rows := c.steps(d.steps(), end, x)
	c.Height = c.StepsTop + rows*stepHeight + 8
	return c
}

func num(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

func (c *chart) bands(phases []results.PhaseFigures, end int64, x func(int64) float64) {
	for i, p := range phases {
		if p.BeginMs == 0 && p.EndMs == 0 {
			continue
		}
		until := p.EndMs
		if until == 0 { // it never ended
			until = end
		}
		from, to := x(p.BeginMs), x(until)
		if to <= from {
			continue
		}
		c.Phases = append(c.Phases, chartBand{
			X: num(from), Width: num(to - from), From: p.BeginMs, To: until, Middle: num((from + to) / 2), Name: p.Name, Even: i%2 == 0, Judged: p.Judged,
			ShowName:  float64(utf8.RuneCountInString(p.Name))*letter*1.2 < to-from,
			TitleText: fmt.Sprintf("phase %s, %s to %s", p.Name, clock(p.BeginMs), clock(until)),
		})
	}
}

func (c *chart) times(end int64, x func(int64) float64) {
	step := int64(1000)
	for _, s := range []int64{5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400} {
		if step = s * 1000; end/step <= 12 {
			break
		}
	}
	for ; end/step > 24; step *= 2 { // a damaged record can be of any length
	}
	for at := int64(0); at <= end; at += step {
		c.TimeTicks = append(c.TimeTicks, chartTick{num(x(at)), clock(at), at})
	}
}

// latency draws on a logarithmic scale: what matters spans decades.
func (c *chart) latency(d Data, x func(int64) float64) {
	line := d.Verdict.Timeline
	lowest, highest := math.Inf(1), 0.0
	for _, b := range line.Buckets {
		if b.P50Ms > 0 {
			lowest, highest = min(lowest, b.P50Ms), max(highest, b.P99Ms)
		}
	}
	limit := latencyLimit(d.Verdict.Budgets)
	if highest == 0 {
		return
	}
	if limit > 0 {
		highest = max(highest, limit*1.25)
	}
	lo, hi := math.Log10(lowest/1.5), math.Log10(highest*1.3)
	y := func(ms float64) float64 {
		return latencyBottom - (math.Log10(max(ms, 1e-6))-lo)/(hi-lo)*(latencyBottom-latencyTop)
	}
	for _, tick := range decades(lo, hi) {
		c.LatencyTicks = append(c.LatencyTicks, chartTick{At: num(y(tick)), Label: tickText(tick)})
	}
	if limit > 0 {
		c.Limit = &chartTick{At: num(y(limit)), Label: "budget " + tickText(limit) + " ms"}
	}
	c.Heat = heat(line, x, y)
	c.P50 = paths(line, x, y, func(b results.Bucket) float64 { return b.P50Ms })
	c.P99 = paths(line, x, y, func(b results.Bucket) float64 { return b.P99Ms })
}

// latencyLimit is the end-to-end p99 budget that is drawn, 0 when there is none.
func latencyLimit(rows []results.BudgetVerdict) float64 {
	for _, r := range rows {
		b, err := budget.Parse(r.Text)
		if err == nil && b.Subject == budget.EndToEnd && b.Plain() && b.Quantile > 0.98 && b.Quantile < 0.995 {
			return ms(b.Duration)
		}
	}
	return 0
}

// decades returns 1, 2 and 5 of each power of ten between two logarithms, only
// the powers where there are many.
func decades(lo, hi float64) []float64 {
	steps := []float64{1, 2, 5}
	if hi-lo > 2.6 {
		steps = steps[:1]
	}
	var ticks []float64
	for e := math.Floor(lo); e <= hi; e++ {
		for _, s := range steps {
			v := s * math.Pow(10, e)
			if l := math.Log10(v); l >= lo && l <= hi {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

func tickText(v float64) string {
	if v >= 1000 {
		return count(int64(v + 0.5))
	}
	return fmt.Sprintf("%.4g", v)
}

// paths draws a line through the buckets that hold requests, broken where there
// were none.
func paths(line results.Timeline, x func(int64) float64, y func(float64) float64, of func(results.Bucket) float64) []string {
	var all []string
	var one strings.Builder
	points := 0
	finish := func() {
		if points == 1 { // a single point is drawn as a short line
			one.WriteString("h2")
		}
		if points > 0 {
			all = append(all, one.String())
		}
		one.Reset()
		points = 0
	}
	for i, b := range line.Buckets {
		if b.Requests == 0 {
			finish()
			continue
		}
		command := "L"
		if points == 0 {
			command = "M"
		}
		middle := int64(i)*line.BucketMs + line.BucketMs/2
		fmt.Fprintf(&one, "%s%s %s", command, num(x(middle)), num(y(of(b))))
		points++
	}
	finish()
	return all
}

func (c *chart) requests(line results.Timeline, x func(int64) float64) {
	seconds, most := float64(line.BucketMs)/1000, int64(0)
	for _, b := range line.Buckets {
		most = max(most, b.Requests)
		c.Failed = c.Failed || b.Failed > 0
	}
	const tall = requestsBottom - requestsTop
	for i, b := range line.Buckets {
		if b.Requests == 0 {
			continue
		}
		from, to := x(int64(i)*line.BucketMs), x(int64(i+1)*line.BucketMs)
		whole := float64(b.Requests) / float64(most) * tall
		bad := float64(b.Failed) / float64(most) * tall
		if b.Failed > 0 {
			bad = max(bad, 3) // one failure among thousands must be seen
			whole = max(whole, bad)
		}
		c.Bars = append(c.Bars, chartBar{
			X: num(from), Width: num(max(to-from-0.8, 0.6)),
			GoodTop: num(requestsBottom - whole), GoodTall: num(whole - bad), HasGood: whole > bad,
			FailTop: num(requestsBottom - bad), FailTall: num(bad), HasFailed: b.Failed > 0,
		})
	}
	c.RateMax = fmt.Sprintf("%.3g", float64(most)/seconds)
	c.RequestTicks = []chartTick{{At: num(requestsTop), Label: c.RateMax}, {At: num(requestsBottom), Label: "0"}}
	c.Bucket = fmt.Sprintf("%g s", seconds)
}

func (c *chart) hovers(line results.Timeline, x func(int64) float64) {
	for i, b := range line.Buckets {
		from := int64(i) * line.BucketMs
		text := fmt.Sprintf("%s to %s: %s requests, %s failed", clock(from), clock(from+line.BucketMs), count(b.Requests), count(b.Failed))
		if b.Requests > 0 {
			text += fmt.Sprintf(", p50 %s ms, p99 %s ms", millis(b.P50Ms), millis(b.P99Ms))
		}
		c.Hovers = append(c.Hovers, chartHover{num(x(from)), num(x(from+line.BucketMs) - x(from)), text})
	}
}

const maxSteps = 60 // that are drawn

// steps lays the steps out in rows so that no words overlap. It returns the
// number of rows.
func (c *chart) steps(all []step, end int64, x func(int64) float64) int {
	var rows []float64 // right end of what each row holds
	for _, s := range all[:min(len(all), maxSteps)] {
		until := s.to
		if s.open {
			until = end
		}
		from, to := x(s.from), max(x(until), x(s.from)+3)
		words := shorten(s.words, 48)
		wide := float64(utf8.RuneCountInString(words)) * letter
		// Words stand behind the bar, or before it where there is no room.
		textX, anchor, left, right := to+5, "start", from, to+5+wide
		if right > chartRight+8 {
			textX, anchor, left, right = from-5, "end", from-5-wide, to
		}
		row := 0
		for row < len(rows) && rows[row] > left-8 {
			row++
		}
		if row == len(rows) {
			rows = append(rows, 0)
		}
		rows[row] = right
		top := float64(c.StepsTop + row*stepHeight)
		title := fmt.Sprintf("%s, %s to %s", s.words, clock(s.from), clock(until))
		if s.failed != "" {
			title += ": " + s.failed
		}
		c.Steps = append(c.Steps, chartStep{
			From: s.from, To: until, X: num(from), Width: num(to - from), Y: num(top + 4), TextX: num(textX), TextY: num(top + 14), Anchor: anchor,
			Words: words, Failed: s.failed != "" || s.open, TitleText: title,
		})
	}
	return len(rows)
}

func shorten(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

package scenarios

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/scenarios/shape"
)

const (
	mostShapes = 32  // of which one shape may be made
	mostRate   = 1e6 // requests a second
	longestFor = 10 * 365 * 24 * time.Hour
)

// ParseShape reads one shape, as a scenario's traffic.shape has it. t says what
// the shop's days are like; source names the text in problems.
func ParseShape(source, text string, t Traffic) (shape.Shape, error) {
	root, problem := parse([]byte(text), "a shape")
	if problem != nil {
		return nil, invalid(&Problems{source, []Problem{*problem}})
	}
	r := &shapeReader{decoder: &decoder{}, traffic: t, dir: "."}
	s := r.shape(root)
	if len(r.problems) > 0 {
		return nil, invalid(&Problems{source, r.sorted()})
	}
	return s, nil
}

// ParseRate reads a rate such as 25, 25/s, 90/min or 5000/d, in requests a second.
func ParseRate(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, "/")
	per, ok := map[string]float64{"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400, "day": 86400}[strings.TrimSpace(unit)]
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(v >= 0 && v/per <= mostRate) {
		return 0, fmt.Errorf("%q is no rate: write 25, 25/s, 90/min, 1000/h or 5000/d, up to %.0f a second", text, mostRate)
	}
	return v / per, nil
}

// DefaultTraffic is what a scenario's traffic is where nothing else is said.
func DefaultTraffic() Traffic { return defaults().Traffic }

// shapeReader reads shapes; each is a name with its options, as a step is.
type shapeReader struct {
	*decoder
	traffic Traffic
	dir     string // that a recording's path starts from
	made    int
	files   bool // a shape is read from one
	ofDay   bool // a length comes from the day's
}

// day returns how long a day lasts, for what has no length of its own.
func (r *shapeReader) day() time.Duration {
	r.ofDay = true
	return r.traffic.CompressTo
}

// short is how long something recorded lasts that has no length of its own.
func (r *shapeReader) short(recorded time.Duration) time.Duration {
	r.ofDay = true
	return r.traffic.short(recorded)
}

// shape returns silence where something is wrong, which has been complained of.
func (r *shapeReader) shape(n *yaml.Node) shape.Shape {
	silence := shape.Constant(0)
	if r.made++; r.made > mostShapes {
		if r.made == mostShapes+1 {
			r.fail(n, "a shape should be made of at most %d shapes", mostShapes)
		}
		return silence
	}
	n = resolve(n)
	name, options := n, &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		name, options = n.Content[0], resolve(n.Content[1])
	}
	if name.Kind != yaml.ScalarNode {
		r.fail(n, "a shape should be one name with its options, such as {constant: {rate: 25}}")
		return silence
	}
	kinds := map[string]func(*yaml.Node) shape.Shape{
		"launch-day": r.launchDay, "doubled": r.doubled, "diurnal": r.diurnal, "constant": r.constant, "ramp": r.ramp,
		"step": r.jump, "spike": r.spike, "recorded": r.recorded, "sum": r.sum, "max": r.max, "sequence": r.sequence,
		"scale": r.scale, "compress": r.compress,
	}
	read, known := kinds[name.Value]
	if !known {
		r.fail(name, "unknown shape %s; known are: %s", quote(name.Value), strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
		return silence
	}
	before := len(r.problems)
	s := read(options)
	if len(r.problems) > before {
		return silence // its options may be of no use
	}
	return s
}

// options reads a shape's options; nothing written is no options.
func (r *shapeReader) options(n *yaml.Node, name string, fields map[string]field, required ...string) {
	if n.ShortTag() == "!!null" {
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	}
	r.mapping(n, "shape "+name, fields, required...)
}

func (r *shapeReader) rate(what string, into *float64) field {
	return func(n *yaml.Node) {
		if !r.scalar(n, what, "a rate such as 25, 90/min or 5000/d", "!!int", "!!float", "!!str") {
			return
		}
		v, err := ParseRate(n.Value)
		if err != nil {
			r.fail(n, "%s: %v", what, err)
		}
		*into = v
	}
}

// clock reads a time of day such as 14:30 as a share of the day.
func (r *shapeReader) clock(what string, into *float64) field {
	return func(n *yaml.Node) {
		const should = "a time of day such as 14:30"
		if !r.scalar(n, what, should, "!!str") {
			return
		}
		at, err := time.Parse("15:04", n.Value)
		if err != nil {
			r.fail(n, "%s should be %s, not %s", what, should, kindOf(n))
			return
		}
		*into = float64(at.Hour()*60+at.Minute()) / (24 * 60)
	}
}

func (r *shapeReader) span(what string, least time.Duration, into *time.Duration) field {
	return r.duration(what, least, longestFor, into)
}

func (r *shapeReader) launchDay(n *yaml.Node) shape.Shape {
	day, lasts := r.traffic.Day, time.Duration(0)
	fields := r.dayFields(&day, &lasts)
	r.options(n, "launch-day", fields)
	if lasts == 0 {
		lasts = r.day()
	}
	if day.LaunchRequests < day.Requests {
		r.fail(n, "launchRequests (%d) is the whole launch day and should be no less than requests (%d)", day.LaunchRequests, day.Requests)
	}
	return shape.LaunchDay(day.Requests, day.LaunchRequests, lasts)
}

func (r *shapeReader) dayFields(day *Day, lasts *time.Duration) map[string]field {
	return map[string]field{
		"requests":       r.integer("requests", 1, 1_000_000_000, &day.Requests),
		"launchRequests": r.integer("launchRequests", 1, 1_000_000_000, &day.LaunchRequests),
		"lasts":          r.span("lasts", time.Second, lasts),
	}
}

func (r *shapeReader) doubled(n *yaml.Node) shape.Shape {
	day := r.launchDay(n)
	return shape.Named(shape.Scale(day, 2), "doubled "+day.String())
}

func (r *shapeReader) diurnal(n *yaml.Node) shape.Shape {
	requests, lasts := r.traffic.Day.Requests, time.Duration(0)
	swing, peak := shape.DefaultSwing, shape.DefaultPeak
	r.options(n, "diurnal", map[string]field{
		"requests": r.integer("requests", 1, 1_000_000_000, &requests),
		"lasts":    r.span("lasts", time.Second, &lasts),
		"swing":    r.share("swing", &swing),
		"peak":     r.clock("peak", &peak),
	})
	if lasts == 0 {
		lasts = r.day()
	}
	return shape.Diurnal(float64(requests), swing, peak, lasts)
}

// constant is {rate: 25}, or just the rate.
func (r *shapeReader) constant(n *yaml.Node) shape.Shape {
	var rate float64
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		r.rate("constant", &rate)(n)
	} else {
		r.options(n, "constant", map[string]field{"rate": r.rate("rate", &rate)}, "rate")
	}
	return shape.Constant(rate)
}

func (r *shapeReader) ramp(n *yaml.Node) shape.Shape {
	var from, to float64
	var over time.Duration
	r.options(n, "ramp", map[string]field{
		"from": r.rate("from", &from), "to": r.rate("to", &to), "over": r.span("over", time.Millisecond, &over),
	}, "from", "to", "over")
	return shape.Ramp(from, to, over)
}

func (r *shapeReader) jump(n *yaml.Node) shape.Shape {
	var from, to float64
	var at time.Duration
	r.options(n, "step", map[string]field{
		"from": r.rate("from", &from), "to": r.rate("to", &to), "at": r.span("at", 0, &at),
	}, "from", "to", "at")
	return shape.Step(from, to, at)
}

func (r *shapeReader) spike(n *yaml.Node) shape.Shape {
	var base, peak float64
	var p shape.Peak
	r.options(n, "spike", map[string]field{
		"base": r.rate("base", &base), "peak": r.rate("peak", &peak), "at": r.span("at", 0, &p.At),
		"rise": r.span("rise", 0, &p.Rise), "hold": r.span("hold", 0, &p.Hold), "fall": r.span("fall", 0, &p.Fall),
		"every": r.span("every", time.Millisecond, &p.Every),
	}, "base", "peak", "at")
	lasts := p.Rise + p.Hold + p.Fall
	switch {
	case lasts == 0:
		r.fail(n, "a spike should last: give it rise, hold or fall")
	case p.Every > 0 && p.Every < lasts:
		r.fail(n, "a spike of %s cannot come again every %s", lasts, p.Every)
	}
	return shape.Spike(base, peak, p)
}

func (r *shapeReader) recorded(n *yaml.Node) shape.Shape {
	var file string
	var lasts time.Duration
	r.options(n, "recorded", map[string]field{
		"file": r.text("file", &file), "compressTo": r.span("compressTo", time.Second, &lasts),
	}, "file")
	r.files = true
	if file == "" {
		return shape.Constant(0)
	}
	sum, ok := r.recording(n, r.path(file))
	if !ok {
		return shape.Constant(0)
	}
	if lasts == 0 {
		lasts = r.short(sum.Period())
	}
	return compressTo(sum.Shape(sum.Names()), sum.Period(), lasts)
}

// recording reads what a recording holds, and complains of it at n.
func (r *shapeReader) recording(n *yaml.Node, path string) (*recording.Summary, bool) {
	sum, err := recording.Scan(path)
	if err != nil {
		r.fail(n, "%s", withoutMend(err))
		return nil, false
	}
	var unknown []string
	for _, name := range sum.Names() {
		if !slices.ContainsFunc(Routes(), func(one Route) bool { return one.Name == name }) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		r.fail(n, "%s: the shop has no route %s", path, strings.Join(unknown, ", "))
	}
	return sum, len(unknown) == 0
}

// withoutMend is an error's words, where a mend would stand in their middle.
func withoutMend(err error) string {
	words, _, _ := strings.Cut(err.Error(), "\n  mend: ")
	if fault.KindOf(err) == 0 {
		return err.Error()
	}
	return words
}

// path is where a file is that a scenario names: beside it.
func (r *shapeReader) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(r.dir, file)
}

func (r *shapeReader) some(n *yaml.Node, name string) []shape.Shape {
	var all []shape.Shape
	r.list(n, name, func(n *yaml.Node) { all = append(all, r.shape(n)) })
	if len(all) == 0 {
		r.fail(n, "%s should have at least one shape", name)
		return []shape.Shape{shape.Constant(0)}
	}
	return all
}

func (r *shapeReader) sum(n *yaml.Node) shape.Shape { return shape.Sum(r.some(n, "sum")...) }
func (r *shapeReader) max(n *yaml.Node) shape.Shape { return shape.Max(r.some(n, "max")...) }

func (r *shapeReader) sequence(n *yaml.Node) shape.Shape {
	var parts []shape.Part
	var nodes []*yaml.Node
	r.list(n, "sequence", func(n *yaml.Node) {
		p := shape.Part{Shape: shape.Constant(0)}
		r.mapping(n, "a part of a sequence", map[string]field{
			"shape": func(n *yaml.Node) { p.Shape = r.shape(n) },
			"for":   r.span("for", time.Millisecond, &p.Lasts),
		}, "shape")
		parts, nodes = append(parts, p), append(nodes, n)
	})
	if len(parts) == 0 {
		r.fail(n, "sequence should have at least one part")
		return shape.Constant(0)
	}
	for i, p := range parts[:len(parts)-1] {
		if p.Lasts == 0 {
			r.fail(nodes[i], "only the last part of a sequence may go on without end: say for how long this one lasts with for")
		}
	}
	return shape.Sequence(parts...)
}

func (r *shapeReader) scale(n *yaml.Node) shape.Shape {
	by, s := 1.0, shape.Constant(0)
	r.options(n, "scale", map[string]field{
		"by": r.number("by", 1000, &by), "shape": func(n *yaml.Node) { s = r.shape(n) },
	}, "by", "shape")
	return shape.Scale(s, by)
}

func (r *shapeReader) compress(n *yaml.Node) shape.Shape {
	by, s := 1.0, shape.Constant(0)
	r.options(n, "compress", map[string]field{
		"by": r.number("by", 100_000, &by), "shape": func(n *yaml.Node) { s = r.shape(n) },
	}, "by", "shape")
	return shape.Compress(s, by)
}

// compressTo makes what lasts so long last another time.
func compressTo(s shape.Shape, lasts, to time.Duration) shape.Shape {
	return shape.Compress(s, float64(lasts)/float64(to))
}

package scenarios

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a scenario.
type Problem struct {
	Line, Column int // from 1
	Message      string
}

// Problems is everything that is wrong with a scenario file, in its order.
type Problems struct {
	File string
	All  []Problem
}

func (p *Problems) Error() string {
	lines := make([]string, len(p.All))
	for i, one := range p.All {
		lines[i] = fmt.Sprintf("%s:%d:%d: %s", p.File, one.Line, one.Column, one.Message)
	}
	return strings.Join(lines, "\n")
}

// decoder reads YAML nodes and gathers problems instead of stopping at one.
type decoder struct {
	problems []Problem
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	d.failAt(n.Line, n.Column, format, args...)
}

func (d *decoder) failAt(line, column int, format string, args ...any) {
	d.problems = append(d.problems, Problem{max(line, 1), max(column, 1), fmt.Sprintf(format, args...)})
}

func (d *decoder) sorted() []Problem {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.problems
}

// field reads the value of one key.
type field func(n *yaml.Node)

// mapping reads a YAML mapping whose keys are all known. Keys in required must
// be there. what names the mapping in messages.
func (d *decoder) mapping(n *yaml.Node, what string, fields map[string]field, required ...string) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s should be a mapping, not %s", what, kindOf(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := fields[key.Value]
		switch {
		case !known:
			d.fail(key, "unknown key %s in %s; known are: %s", quote(key.Value), what, names(fields))
		case seen[key.Value]:
			d.fail(key, "key %s is given twice in %s", quote(key.Value), what)
		default:
			read(resolve(value))
		}
		seen[key.Value] = true
	}
	for _, key := range required {
		if !seen[key] {
			d.fail(n, "%s needs the key %q", what, key)
		}
	}
}

func names(fields map[string]field) string {
	if len(fields) == 0 {
		return "none"
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// list calls read with each element of a YAML sequence.
func (d *decoder) list(n *yaml.Node, what string, read field) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "%s should be a list, not %s", what, kindOf(n))
		return
	}
	for _, element := range n.Content {
		read(resolve(element))
	}
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!int":
			return "the number " + short(n.Value)
		case "!!null":
			return "nothing"
		default:
			return quote(n.Value)
		}
	default:
		return "nothing"
	}
}

// quote quotes a value for a message, not more of it than one can read.
func quote(s string) string { return strconv.Quote(short(s)) }

const shown = 60 // runes of a wrong value

func short(s string) string {
	if r := []rune(s); len(r) > shown {
		return string(r[:shown]) + "…"
	}
	return s
}

// scalar tells whether n is a scalar of one of the tags, and complains if not.
func (d *decoder) scalar(n *yaml.Node, what, should string, tags ...string) bool {
	if n.Kind == yaml.ScalarNode && slices.Contains(tags, n.ShortTag()) {
		return true
	}
	d.fail(n, "%s should be %s, not %s", what, should, kindOf(n))
	return false
}

func (d *decoder) text(what string, into *string) field {
	return func(n *yaml.Node) {
		if d.scalar(n, what, "a text", "!!str") {
			*into = n.Value
		}
	}
}

var nameShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// name reads a name as Kubernetes has them.
func (d *decoder) name(what string, into *string) field {
	return func(n *yaml.Node) {
		if !d.scalar(n, what, "a name", "!!str", "!!int") {
			return
		}
		if !nameShape.MatchString(n.Value) {
			d.fail(n, "%s %s should be lower-case letters, digits and dashes", what, quote(n.Value))
			return
		}
		*into = n.Value
	}
}

func (d *decoder) boolean(what string, into *bool) field {
	return func(n *yaml.Node) {
		if d.scalar(n, what, "true or false", "!!bool") {
			*into = n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
		}
	}
}

// integer reads a whole number from lo to hi.
func (d *decoder) integer(what string, lo, hi int, into *int) field {
	return func(n *yaml.Node) {
		should := fmt.Sprintf("a whole number from %d to %d", lo, hi)
		if !d.scalar(n, what, should, "!!int") {
			return
		}
		var v int
		if err := n.Decode(&v); err != nil || v < lo || v > hi {
			d.fail(n, "%s should be %s, not %s", what, should, short(n.Value))
			return
		}
		*into = v
	}
}

func (d *decoder) seed(n *yaml.Node, into *uint64) {
	const should = "a whole number from 0 on"
	if !d.scalar(n, "seed", should, "!!int") {
		return
	}
	if err := n.Decode(into); err != nil {
		d.fail(n, "seed should be %s, not %s", should, short(n.Value))
	}
}

// number reads a number above 0 and up to hi.
func (d *decoder) number(what string, hi float64, into *float64) field {
	return func(n *yaml.Node) {
		should := fmt.Sprintf("a number above 0 and up to %g", hi)
		if !d.scalar(n, what, should, "!!int", "!!float") {
			return
		}
		var v float64
		if err := n.Decode(&v); err != nil || !(v > 0 && v <= hi) {
			d.fail(n, "%s should be %s, not %s", what, should, short(n.Value))
			return
		}
		*into = v
	}
}

// duration reads a duration such as 90s, from lo to hi.
func (d *decoder) duration(what string, lo, hi time.Duration, into *time.Duration) field {
	return func(n *yaml.Node) {
		const should = "a duration such as 90s"
		if !d.scalar(n, what, should, "!!str", "!!int") {
			return
		}
		v, err := time.ParseDuration(n.Value)
		if err != nil {
			d.fail(n, "%s should be %s, not %s", what, should, kindOf(n))
			return
		}
		if v < lo || v > hi {
			d.fail(n, "%s should be from %s to %s, not %s", what, lo, hi, v)
			return
		}
		*into = v
	}
}

// share reads a percentage such as 1% as 0–1.
func (d *decoder) share(what string, into *float64) field {
	return func(n *yaml.Node) {
		const should = "a percentage from 0% to 100%, such as 1%"
		if !d.scalar(n, what, should, "!!str", "!!int", "!!float") {
			return
		}
		digits, ok := strings.CutSuffix(n.Value, "%")
		v, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || !(v >= 0 && v <= 100) {
			d.fail(n, "%s should be %s, not %s", what, should, kindOf(n))
			return
		}
		*into = v / 100
	}
}

// oneOf reads one of some words.
func (d *decoder) oneOf(what string, words []string, into *string) field {
	return func(n *yaml.Node) {
		should := "one of " + strings.Join(words, ", ")
		if !d.scalar(n, what, should, "!!str") {
			return
		}
		if !slices.Contains(words, n.Value) {
			d.fail(n, "%s should be %s, not %s", what, should, quote(n.Value))
			return
		}
		*into = n.Value
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax turns an error of the YAML parser into a problem with its line.
func syntax(err error) Problem {
	message := err.Error()
	p := Problem{Line: 1, Column: 1}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		p.Message = "not YAML: " + message[len(m[0]):]
		if line, err := strconv.Atoi(m[1]); err == nil {
			p.Line = line
		}
		return p
	}
	p.Message = "not YAML: " + message
	return p
}

// parse reads the one document of a file; what says what the file is.
func parse(raw []byte, what string) (*yaml.Node, *Problem) {
	in := yaml.NewDecoder(strings.NewReader(string(raw)))
	var doc yaml.Node
	if err := in.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Problem{1, 1, "the file is empty"}
		}
		p := syntax(err)
		return nil, &p
	}
	var more yaml.Node
	if err := in.Decode(&more); err == nil {
		return nil, &Problem{more.Line, 1, what + " holds one document"}
	} else if !errors.Is(err, io.EOF) {
		p := syntax(err)
		return nil, &p
	}
	return doc.Content[0], nil
}

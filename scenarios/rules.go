package scenarios

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/fault"
)

// RulesKind is the kind of a file of traffic rules.
const RulesKind = "TrafficRules"

//go:embed rules/shop.yaml
var shippedRules embed.FS

// Rules say which requests of an access log are which route of the shop.
type Rules struct {
	Name  string
	Rules []Rule // the first that fits counts
	// Fields are the names that NDJSON lines have for what is read, tried before
	// the usual ones; "" for none.
	Fields LogFields
}

// LogFields are names of JSON fields, with dots into nested ones.
type LogFields struct{ Time, Method, Path, Status string }

// Rule is one line of rules. Either Route or Drop is set.
type Rule struct {
	Methods []string // empty: any
	Path    Pattern
	Route   string
	Drop    string // why such requests are left out
}

// Pattern is a path as rules have it. Each * stands for one segment or a part
// of one, and ** at the end for all that follows, nothing included.
type Pattern struct {
	text     string
	segments [][]byte // with * in them
	rest     bool     // ** at the end
}

// LoadRules reads rules from a file; "" is the shop's own, which are shipped.
// What is wrong comes as one fault.Invalid around *Problems.
func LoadRules(path string) (*Rules, error) {
	if path == "" {
		const own = "rules/shop.yaml"
		raw, err := shippedRules.ReadFile(own)
		if err != nil {
			return nil, err
		}
		return ParseRules(own, raw)
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NewInvalid(fmt.Errorf("traffic rules %s are not there", path), "leave --rules away for the shop's own API")
	}
	if err != nil {
		return nil, fault.NewInvalid(fmt.Errorf("read traffic rules: %w", err), "")
	}
	return ParseRules(path, raw)
}

// ParseRules reads rules from raw; source names it in problems.
func ParseRules(source string, raw []byte) (*Rules, error) {
	wrong := func(p ...Problem) error {
		return fault.NewInvalid(&Problems{source, p}, "docs/traffic.md tells every key")
	}
	root, problem := parse(raw, "a file of traffic rules")
	if problem != nil {
		return nil, wrong(*problem)
	}
	d := &decoder{}
	rules := &Rules{}
	var version, kind string
	d.mapping(root, "the file", map[string]field{
		"apiVersion": d.oneOf("apiVersion", []string{APIVersion}, &version),
		"kind":       d.oneOf("kind", []string{RulesKind}, &kind),
		"metadata": func(n *yaml.Node) {
			d.mapping(n, "metadata", map[string]field{"name": d.name("name", &rules.Name)}, "name")
		},
		"spec": func(n *yaml.Node) { d.rules(n, rules) },
	}, "apiVersion", "kind", "metadata", "spec")
	if len(d.problems) > 0 {
		return nil, wrong(d.sorted()...)
	}
	return rules, nil
}

const mostRules = 1000

func (d *decoder) rules(n *yaml.Node, into *Rules) {
	d.mapping(n, "spec", map[string]field{
		"rules": func(n *yaml.Node) {
			d.list(n, "rules", func(n *yaml.Node) { into.Rules = append(into.Rules, d.rule(n)) })
			if n.Kind == yaml.SequenceNode && (len(n.Content) == 0 || len(n.Content) > mostRules) {
				d.fail(n, "rules should be at least one and at most %d", mostRules)
			}
		},
		"ndjson": func(n *yaml.Node) {
			f := &into.Fields
			d.mapping(n, "ndjson", map[string]field{
				"time": d.text("time", &f.Time), "method": d.text("method", &f.Method),
				"path": d.text("path", &f.Path), "status": d.text("status", &f.Status),
			})
		},
	}, "rules")
}

func (d *decoder) rule(n *yaml.Node) Rule {
	var rule Rule
	var names []string
	for _, r := range Routes() {
		names = append(names, r.Name)
	}
	d.mapping(n, "a rule", map[string]field{
		"method": func(n *yaml.Node) {
			if n.Kind != yaml.SequenceNode {
				n = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n}, Line: n.Line, Column: n.Column}
			}
			d.list(n, "method", func(n *yaml.Node) { d.method(n, &rule.Methods) })
		},
		"path":  func(n *yaml.Node) { d.pattern(n, &rule.Path) },
		"route": d.oneOf("route", names, &rule.Route),
		"drop":  d.text("drop", &rule.Drop),
	}, "path")
	if n.Kind == yaml.MappingNode && has(n, "route") == has(n, "drop") {
		d.fail(n, "a rule should have either a route or, under drop, why such requests are left out")
	}
	return rule
}

func has(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

var methodShape = regexp.MustCompile(`^[A-Z]{1,20}$`)

func (d *decoder) method(n *yaml.Node, into *[]string) {
	if !d.scalar(n, "method", "a method such as GET", "!!str") {
		return
	}
	if !methodShape.MatchString(n.Value) {
		d.fail(n, "method %q should be capital letters, such as GET", n.Value)
		return
	}
	*into = append(*into, n.Value)
}

func (d *decoder) pattern(n *yaml.Node, into *Pattern) {
	if !d.scalar(n, "path", "a path such as /api/orders/*", "!!str") {
		return
	}
	p, err := ParsePattern(n.Value)
	if err != nil {
		d.fail(n, "%v", err)
	}
	*into = p
}

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	rest, ok := strings.CutPrefix(text, "/")
	switch {
	case !ok:
		return p, fmt.Errorf("path %q should begin with /", text)
	case len(text) > 1000:
		return p, errors.New("a path should be no longer than 1000 characters")
	case strings.ContainsAny(text, "?# "):
		return p, fmt.Errorf("path %q should be without query, fragment and blanks: they are not looked at", text)
	}
	for segment := range strings.SplitSeq(rest, "/") {
		switch {
		case p.rest, segment != "**" && strings.Contains(segment, "**"):
			return p, fmt.Errorf("path %q: ** stands by itself and at the end", text)
		case segment == "**":
			p.rest = true
		default:
			p.segments = append(p.segments, []byte(segment))
		}
	}
	return p, nil
}

func (p Pattern) String() string { return p.text }

// Matches tells whether a path fits. It allocates nothing.
func (p Pattern) Matches(path []byte) bool {
	rest, ok := bytes.CutPrefix(path, []byte{'/'})
	if !ok {
		return false
	}
	for i, want := range p.segments {
		segment, after, more := bytes.Cut(rest, []byte{'/'})
		if !fits(want, segment) {
			return false
		}
		last := i == len(p.segments)-1
		if !more {
			return last // ** may stand for nothing
		}
		if last && !p.rest {
			return false
		}
		rest = after
	}
	return p.rest
}

// fits tells whether a segment fits one with stars, which stand for one
// character or more when alone and for any otherwise.
func fits(want, segment []byte) bool {
	if string(want) == "*" {
		return len(segment) > 0
	}
	before, want, star := bytes.Cut(want, []byte{'*'})
	if !star {
		return bytes.Equal(before, segment)
	}
	segment, ok := bytes.CutPrefix(segment, before)
	for ok {
		before, want, star = bytes.Cut(want, []byte{'*'})
		if !star {
			return bytes.HasSuffix(segment, before)
		}
		_, segment, ok = bytes.Cut(segment, before)
	}
	return false
}

// Match returns the index of the first rule that fits.
func (r *Rules) Match(method, path []byte) (rule int, ok bool) {
	for i := range r.Rules {
		one := &r.Rules[i]
		if len(one.Methods) > 0 && !slices.ContainsFunc(one.Methods, func(m string) bool { return m == string(method) }) {
			continue
		}
		if one.Path.Matches(path) {
			return i, true
		}
	}
	return 0, false
}

// Words returns the words that the rules' paths are made of, stars aside.
func (r *Rules) Words() []string {
	var words []string
	for _, one := range r.Rules {
		for _, segment := range one.Path.segments {
			if !bytes.ContainsRune(segment, '*') && len(segment) > 0 {
				words = append(words, string(segment))
			}
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

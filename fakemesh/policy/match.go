package policy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// route is what an HTTPRoute matches, with what its rules say.
type route[T any] struct {
	hosts []string // lower case; "*." in front means the end of a name
	rules []rule[T]
}

type rule[T any] struct {
	matches []match
	value   T
}

type match struct {
	path    pathMatch
	method  string // "" is any
	headers []valueMatch
	queries []valueMatch
}

type pathMatch struct {
	any   bool
	kind  meshapi.PathMatch_Kind
	value string // of a prefix, without the blank end that a slash makes
	size  int
	regex *regexp.Regexp
}

type valueMatch struct {
	name  string
	value string
	regex *regexp.Regexp
}

// score is how closely a request is matched; of two the closer one counts.
type score struct {
	host    int // characters of the name; one that is whole before any end of one
	path    int
	headers int
	queries int
	method  bool
}

// wholeHost puts names that are written in full before ends of names, which
// have at most 253 characters.
const wholeHost = 1 << 10

func (a score) compare(b score) int {
	switch {
	case a.host != b.host:
		return cmp.Compare(a.host, b.host)
	case a.path != b.path:
		return cmp.Compare(a.path, b.path)
	case a.headers != b.headers:
		return cmp.Compare(a.headers, b.headers)
	case a.queries != b.queries:
		return cmp.Compare(a.queries, b.queries)
	case a.method == b.method:
		return 0
	case a.method:
		return 1
	default:
		return -1
	}
}

// everything is the score of a rule without matches: the prefix "/".
var everything = score{path: 1}

// request is one that is being matched.
type request struct {
	*http.Request
	path    string
	queries url.Values // parsed when the first match asks for it
}

// find gives the rule that matches the request most closely; of several the
// first. It is nil when none does.
func find[T any](routes []route[T], r *request) (best *T, closest score) {
	for i := range routes {
		host, ok := matchHost(routes[i].hosts, r.Host)
		if !ok {
			continue
		}
		for j := range routes[i].rules {
			rule := &routes[i].rules[j]
			s, ok := rule.match(r)
			if !ok {
				continue
			}
			s.host = host
			if best == nil || s.compare(closest) > 0 {
				best, closest = &rule.value, s
			}
		}
	}
	return best, closest
}

// rawPath is the path as the client wrote it and the server will read it.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	if path := r.URL.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

func matchHost(hosts []string, authority string) (int, bool) {
	if len(hosts) == 0 {
		return 0, true
	}
	name := authority
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") {
		name = name[:i]
	}
	best, found := 0, false
	for _, h := range hosts {
		end, isEnd := strings.CutPrefix(h, "*")
		switch {
		case !isEnd && strings.EqualFold(h, name):
			best, found = max(best, wholeHost+len(h)), true
		case isEnd && len(name) > len(end) && strings.EqualFold(end, name[len(name)-len(end):]):
			best, found = max(best, len(h)), true
		}
	}
	return best, found
}

func (x *rule[T]) match(r *request) (score, bool) {
	if len(x.matches) == 0 {
		return everything, true
	}
	var best score
	found := false
	for i := range x.matches {
		if s, ok := x.matches[i].match(r); ok && (!found || s.compare(best) > 0) {
			best, found = s, true
		}
	}
	return best, found
}

func (m *match) match(r *request) (score, bool) {
	if m.method != "" && m.method != r.Method || !m.path.match(r.path) {
		return score{}, false
	}
	for i := range m.headers {
		if !m.headers[i].header(r.Request) {
			return score{}, false
		}
	}
	if len(m.queries) > 0 && r.queries == nil {
		r.queries, _ = url.ParseQuery(r.URL.RawQuery) // what cannot be read matches nothing
	}
	for i := range m.queries {
		if !m.queries[i].any(r.queries[m.queries[i].name]) {
			return score{}, false
		}
	}
	size := m.path.size
	if m.path.kind == meshapi.PathMatch_REGEX {
		size = len(r.path)
	}
	return score{path: size, headers: len(m.headers), queries: len(m.queries), method: m.method != ""}, true
}

func (p *pathMatch) match(path string) bool {
	switch {
	case p.any:
		return true
	case p.kind == meshapi.PathMatch_EXACT:
		return path == p.value
	case p.kind == meshapi.PathMatch_REGEX:
		return p.regex.MatchString(path)
	default:
		return strings.HasPrefix(path, p.value) && (len(path) == len(p.value) || path[len(p.value)] == '/')
	}
}

func (v *valueMatch) header(r *http.Request) bool {
	if v.name == "Host" { // net/http keeps it apart
		return v.is(r.Host)
	}
	return v.any(r.Header[v.name])
}

func (v *valueMatch) any(values []string) bool { return slices.ContainsFunc(values, v.is) }

func (v *valueMatch) is(value string) bool {
	if v.regex != nil {
		return v.regex.MatchString(value)
	}
	return v.value == value
}

// compileRoute makes a route; value makes what its rules say.
func compileRoute[T any](r *meshapi.Route, value func(*meshapi.Rule) (T, error)) (route[T], error) {
	out := route[T]{}
	for _, h := range r.GetHosts() {
		out.hosts = append(out.hosts, strings.ToLower(h))
	}
	for _, rl := range r.GetRules() {
		matches, err := compileMatches(rl.GetMatches())
		if err != nil {
			return out, fmt.Errorf("route %s: %w", r.GetResource().GetName(), err)
		}
		v, err := value(rl)
		if err != nil {
			return out, fmt.Errorf("route %s: %w", r.GetResource().GetName(), err)
		}
		out.rules = append(out.rules, rule[T]{matches: matches, value: v})
	}
	return out, nil
}

// CheckMatches says whether matches can be compiled.
func CheckMatches(list []*meshapi.Match) error {
	_, err := compileMatches(list)
	return err
}

func compileMatches(list []*meshapi.Match) ([]match, error) {
	var out []match
	for _, m := range list {
		c := match{method: m.GetMethod()}
		var err error
		if c.path, err = compilePath(m.GetPath()); err != nil {
			return nil, err
		}
		if c.headers, err = compileValues(m.GetHeaders(), http.CanonicalHeaderKey); err != nil {
			return nil, err
		}
		if c.queries, err = compileValues(m.GetQueries(), strings.Clone); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func compilePath(m *meshapi.PathMatch) (pathMatch, error) {
	if m == nil {
		return pathMatch{any: true, size: everything.path}, nil
	}
	p := pathMatch{kind: m.GetKind(), value: m.GetValue(), size: len(m.GetValue())}
	if p.kind == meshapi.PathMatch_REGEX {
		var err error
		p.regex, err = whole(p.value)
		return p, err
	}
	if !strings.HasPrefix(p.value, "/") {
		return p, fmt.Errorf("path %q does not begin with a slash", p.value)
	}
	if p.kind == meshapi.PathMatch_PREFIX {
		p.value = strings.TrimSuffix(p.value, "/")
	}
	return p, nil
}

// maxRegex bounds what a proxy compiles.
const maxRegex = 1024

func whole(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegex {
		return nil, fmt.Errorf("the expression has %d characters, more than %d", len(expr), maxRegex)
	}
	// By itself first: one that closes the group would match more than it says.
	if _, err := regexp.Compile(expr); err != nil {
		return nil, fmt.Errorf("expression %q: %w", expr, err)
	}
	re, err := regexp.Compile(`^(?:` + expr + `)$`)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", expr, err)
	}
	return re, nil
}

func compileValues(list []*meshapi.ValueMatch, name func(string) string) ([]valueMatch, error) {
	var out []valueMatch
	for _, v := range list {
		c := valueMatch{name: name(v.GetName()), value: v.GetValue()}
		if v.GetRegex() {
			var err error
			if c.regex, err = whole(c.value); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

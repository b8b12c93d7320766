package alb

import (
	"cmp"
	"net"
	"regexp"
	"slices"
	"strings"
)

// Listener names one of the two doors of the load balancer.
type Listener string

const (
	HTTP Listener = "http" // HTTP/1.1
	GRPC Listener = "grpc" // HTTP/2 without TLS
)

// matchKind is how a rule's path is read.
type matchKind int

const (
	exactPath matchKind = iota
	prefixPath
	patternPath // ALB's own wildcards: * and ?
)

// rule sends requests to a target group.
type rule struct {
	host    string // "" is any; "*.example.com" is any one label before it
	kind    matchKind
	path    string
	pattern *regexp.Regexp // of patternPath
	group   string         // name of the target group
	source  string         // namespace/name of the Ingress

	priority int // from 1, in the order of a listener's rules
}

// newRule prepares a rule for matching.
func newRule(host string, kind matchKind, path, group, source string) rule {
	r := rule{host: strings.ToLower(host), kind: kind, path: path, group: group, source: source}
	if kind == prefixPath {
		r.path = strings.TrimRight(path, "/")
	}
	if kind == patternPath {
		r.pattern = compilePattern(path)
	}
	return r
}

// compilePattern turns ALB's wildcards into an anchored expression.
func compilePattern(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for _, c := range pattern {
		switch c {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String()) // every other character is quoted, so it always compiles
}

// sortRules puts rules in the order they are asked: those with a host first,
// then exact paths, then the longer path.
func sortRules(rules []rule) {
	slices.SortStableFunc(rules, func(a, b rule) int {
		return cmp.Or(
			cmp.Compare(hostRank(a.host), hostRank(b.host)),
			-compareBool(a.kind == exactPath, b.kind == exactPath),
			-cmp.Compare(len(a.path), len(b.path)),
			cmp.Compare(a.path, b.path),
			cmp.Compare(a.source, b.source),
		)
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func hostRank(host string) int {
	switch {
	case host == "":
		return 2
	case strings.HasPrefix(host, "*."):
		return 1
	}
	return 0
}

// match returns the first rule that takes the request, or nil.
func match(rules []rule, host, path string) *rule {
	host = bareHost(host)
	for i := range rules {
		if rules[i].takesHost(host) && rules[i].takesPath(path) {
			return &rules[i]
		}
	}
	return nil
}

func bareHost(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = h
	}
	return strings.ToLower(hostport)
}

func (r *rule) takesHost(host string) bool {
	if r.host == "" || r.host == host {
		return true
	}
	suffix, ok := strings.CutPrefix(r.host, "*")
	label, found := strings.CutSuffix(host, suffix)
	return ok && found && label != "" && !strings.Contains(label, ".")
}

func (r *rule) takesPath(path string) bool {
	switch r.kind {
	case exactPath:
		return path == r.path
	case prefixPath:
		rest, ok := strings.CutPrefix(path, r.path)
		return ok && (rest == "" || rest[0] == '/') // whole path elements only
	default:
		return r.pattern.MatchString(path)
	}
}

package budget

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// rule is one line of the grammar. A new kind of budget is a new rule.
type rule struct {
	subject Subject
	// parse reads what follows the subject's words, without the phases.
	parse  func(*parser, *Budget)
	phases bool
}

var rules = []rule{
	{FailedRequests, counted, true},
	{Availability, available, true},
	{EndToEnd, func(p *parser, b *Budget) { b.Quantile = p.quantile(); p.limit(b) }, true},
	{AddedLatency, func(p *parser, b *Budget) {
		b.Quantile = p.quantile()
		p.limit(b)
		p.word("per")
		b.Per = p.oneOf("hop", "request")
	}, false},
	{InjectedPods, covered, false},
	{MTLSCalls, covered, true},
	{PlaintextAccepted, counted, false},
	{IssuerCertificate, func(p *parser, b *Budget) {
		b.Op, b.Duration = Equal, p.duration()
		p.word(",")
		p.word("renewed")
		b.Lead = p.duration()
		p.word("early")
	}, false},
	{VaultUnsealed, func(p *parser, b *Budget) {
		if p.next().text == "within" {
			p.take()
			b.Op, b.Duration = AtMost, p.duration()
		}
	}, false},
	{OrdersLost, counted, false},
	{ItemsOversold, counted, false},
	{PaymentsUnmatched, counted, false},
}

func counted(p *parser, b *Budget) { b.Op, b.Count = p.op(Equal, AtMost), p.count() }

func covered(p *parser, b *Budget) { b.Op, b.Ratio = p.op(Equal, AtLeast), p.ratio() }

func available(p *parser, b *Budget) {
	b.Op = p.op(AtLeast)
	column := p.next().column
	b.Ratio = p.ratio()
	if b.Ratio >= 1 {
		p.fail(column, "no number of requests shows 100 %; write failed requests = 0")
	}
	if b.Ratio <= 0 {
		p.fail(column, "an availability of 0 % says nothing")
	}
}

// Parse reads one budget. Its errors are *Error.
func Parse(text string) (Budget, error) {
	p := &parser{tokens: split(text)}
	b := Budget{Text: strings.TrimSpace(text)}
	if len(p.tokens) == 1 {
		return Budget{}, &Error{1, "the budget is empty"}
	}
	r, ok := p.subject()
	if !ok {
		return Budget{}, &Error{p.tokens[0].column, fmt.Sprintf("no budget begins with %q; one begins with: %s",
			p.beginning(), strings.Join(subjects(), ", "))}
	}
	b.Subject = r.subject
	r.parse(p, &b)
	if p.err == nil && r.phases && p.next().text == "in" {
		p.take()
		b.Phases = p.phases()
	}
	if rest := p.next(); p.err == nil && rest.text != "" {
		p.fail(rest.column, fmt.Sprintf("%q is more than a budget on %q has", rest.text, b.Subject))
	}
	if p.err != nil {
		return Budget{}, p.err
	}
	return b, nil
}

func subjects() []string {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = string(r.subject)
	}
	return names
}

type token struct {
	text   string
	column int
}

// split cuts text into words, operators and commas; an empty token ends them.
func split(text string) []token {
	var tokens []token
	runes := []rune(text)
	for i := 0; i < len(runes); {
		start := i
		switch {
		case unicode.IsSpace(runes[i]):
			i++
			continue
		case runes[i] == ',':
			i++
		case isOp(runes[i]):
			for i < len(runes) && isOp(runes[i]) {
				i++
			}
		default:
			for i < len(runes) && !unicode.IsSpace(runes[i]) && runes[i] != ',' && !isOp(runes[i]) {
				i++
			}
		}
		tokens = append(tokens, token{string(runes[start:i]), start + 1})
	}
	return append(tokens, token{"", len([]rune(strings.TrimRightFunc(text, unicode.IsSpace))) + 1})
}

func isOp(r rune) bool { return r == '<' || r == '>' || r == '=' || r == '!' }

// parser walks over tokens and keeps the first error; after it, nothing that it
// returns counts.
type parser struct {
	tokens []token
	at     int
	err    *Error
}

func (p *parser) fail(column int, message string) {
	if p.err == nil {
		p.err = &Error{column, message}
	}
}

func (p *parser) next() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.text != "" {
		p.at++
	}
	return t
}

// want takes the next token; it fails with what was wanted unless ok.
func (p *parser) want(what string, ok func(string) bool) string {
	t := p.take()
	if ok(t.text) {
		return t.text
	}
	if t.text == "" {
		p.fail(t.column, "here is missing "+what)
	} else {
		p.fail(t.column, fmt.Sprintf("%q should be %s", t.text, what))
	}
	return ""
}

func (p *parser) subject() (rule, bool) {
	for _, r := range rules {
		words := strings.Fields(string(r.subject))
		if len(p.tokens) <= len(words) {
			continue
		}
		if slices.EqualFunc(p.tokens[:len(words)], words, func(t token, w string) bool { return t.text == w }) {
			p.at = len(words)
			return r, true
		}
	}
	return rule{}, false
}

// beginning returns the words before the first operator, to be shown.
func (p *parser) beginning() string {
	var words []string
	for _, t := range p.tokens {
		if t.text == "" || isOp([]rune(t.text)[0]) || len(words) == 4 {
			break
		}
		words = append(words, t.text)
	}
	return strings.Join(words, " ")
}

func (p *parser) word(word string) {
	p.want(strconv.Quote(word), func(s string) bool { return s == word })
}

func (p *parser) oneOf(words ...string) string {
	return p.want(strings.Join(words, " or "), func(s string) bool { return slices.Contains(words, s) })
}

func (p *parser) op(allowed ...Op) Op {
	names := make([]string, len(allowed))
	for i, op := range allowed {
		names[i] = string(op)
	}
	return Op(p.oneOf(names...))
}

// limit reads the upper bound of a latency.
func (p *parser) limit(b *Budget) { b.Op, b.Duration = p.op(Less, AtMost), p.duration() }

func (p *parser) count() int64 {
	var n int64
	p.want("a whole number", func(s string) bool {
		parsed, err := strconv.ParseInt(s, 10, 64)
		n = parsed
		return err == nil && n >= 0 && digits(s)
	})
	return n
}

func (p *parser) ratio() float64 {
	var share float64
	p.want("a percentage such as 99.95%", func(s string) bool {
		number, ok := strings.CutSuffix(s, "%")
		parsed, fine := decimal(number)
		share = parsed / 100
		return ok && fine && share <= 1
	})
	return share
}

func (p *parser) quantile() float64 {
	var q float64
	p.want("a percentile such as p99", func(s string) bool {
		number, ok := strings.CutPrefix(s, "p")
		parsed, fine := decimal(number)
		q = parsed / 100
		return ok && fine && q > 0 && q < 1
	})
	return q
}

var units = []struct {
	suffix string
	unit   time.Duration
}{ // us and ms before s
	{"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second},
	{"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

func (p *parser) duration() time.Duration {
	var d time.Duration
	p.want("a duration such as 100ms or 7d", func(s string) bool {
		for _, u := range units {
			if number, ok := strings.CutSuffix(s, u.suffix); ok {
				parsed, fine := decimal(number)
				d = time.Duration(parsed * float64(u.unit))
				return fine && parsed*float64(u.unit) < float64(1<<62) && d > 0
			}
		}
		return false
	})
	return d
}

func (p *parser) phases() []Name {
	var names []Name
	for {
		column := p.next().column
		name := p.want("a phase's name", func(s string) bool { return s != "" && s != "," && !isOp([]rune(s)[0]) })
		if p.err != nil {
			return nil
		}
		if slices.ContainsFunc(names, func(n Name) bool { return n.Name == name }) {
			p.fail(column, fmt.Sprintf("phase %q is named twice", name))
		}
		names = append(names, Name{name, column})
		if p.next().text != "," {
			return names
		}
		p.take()
	}
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// decimal reads digits with at most one point; no sign, exponent or word.
func decimal(s string) (float64, bool) {
	if strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

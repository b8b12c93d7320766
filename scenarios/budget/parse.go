package budget

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Parse reads one budget. Its errors are *Error.
func Parse(text string) (Budget, error) {
	p := &parser{tokens: split(text)}
	b := Budget{Text: strings.TrimSpace(text)}
	if len(p.tokens) == 1 {
		return Budget{}, &Error{1, "the budget is empty"}
	}
	r, ok := p.subject()
	if !ok {
		return Budget{}, &Error{p.tokens[0].column, unknownSubject(p.beginning())}
	}
	b.Subject = r.subject
	r.parse(p, &b)
	if p.err == nil && len(r.filter) > 0 && p.next().text == "of" {
		p.take()
		b.Filter = p.filter(r.filter)
	}
	p.scope(&b, r.on)
	if rest := p.next(); p.err == nil && rest.text != "" {
		p.fail(rest.column, fmt.Sprintf("%q is more than a budget on %q has", rest.text, b.Subject))
	}
	if p.err != nil {
		return Budget{}, p.err
	}
	return b, nil
}

// unknownSubject says what was hardly meant otherwise, else what there is.
func unknownSubject(beginning string) string {
	text := fmt.Sprintf("no budget begins with %q", beginning)
	var names []string
	for _, r := range rules {
		names = append(names, string(r.subject))
	}
	written := strings.Fields(beginning)
	best, bestAt := "", math.MaxInt
	for _, name := range names {
		n := min(len(strings.Fields(name)), len(written))
		if near, at := nearest(strings.Join(written[:n], " "), []string{name}); near != "" && at < bestAt {
			best, bestAt = near, at
		}
	}
	if best != "" {
		return fmt.Sprintf("%s; did you mean %q?", text, best)
	}
	return text + "; one begins with: " + strings.Join(names, ", ")
}

// token is a word, an operator, a comma or a text in quotes. An empty one that
// is not quoted ends the line.
type token struct {
	text   string
	column int
	quoted bool
	open   bool // its quotes are not closed
}

// split cuts text into tokens.
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
		case isQuote(runes[i]):
			end := slices.Index(runes[i+1:], runes[i])
			if end < 0 {
				tokens = append(tokens, token{string(runes[start+1:]), start + 1, true, true})
				i = len(runes)
				continue
			}
			tokens = append(tokens, token{string(runes[start+1 : start+1+end]), start + 1, true, false})
			i += end + 2
			continue
		default:
			for i < len(runes) && !unicode.IsSpace(runes[i]) && runes[i] != ',' && !isOp(runes[i]) {
				i++
			}
		}
		tokens = append(tokens, token{text: string(runes[start:i]), column: start + 1})
	}
	return append(tokens, token{column: len([]rune(strings.TrimRightFunc(text, unicode.IsSpace))) + 1})
}

func isOp(r rune) bool { return r == '<' || r == '>' || r == '=' || r == '!' }

func isQuote(r rune) bool { return r == '"' || r == '\'' || r == '`' }

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
	if p.at < len(p.tokens)-1 {
		p.at++
	}
	return t
}

// want takes the next token; it fails with what was wanted unless ok, and with
// the nearest of the words that would have been.
func (p *parser) want(what string, ok func(string) bool, words ...string) string {
	t := p.take()
	switch {
	case !t.quoted && ok(t.text):
		return t.text
	case t.text == "" && !t.quoted:
		p.fail(t.column, "here is missing "+what)
	default:
		p.fail(t.column, fmt.Sprintf("%q should be %s%s", t.text, what, didYouMean(t.text, words)))
	}
	return ""
}

func (p *parser) subject() (rule, bool) {
	var found rule
	longest := 0
	for _, r := range rules {
		words := strings.Fields(string(r.subject))
		if len(p.tokens) <= len(words) || len(words) <= longest {
			continue
		}
		if slices.EqualFunc(p.tokens[:len(words)], words, func(t token, w string) bool { return t.text == w && !t.quoted }) {
			found, longest = r, len(words)
		}
	}
	p.at = longest
	return found, longest > 0
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
	p.want(strconv.Quote(word), func(s string) bool { return s == word }, word)
}

func (p *parser) oneOf(words ...string) string {
	what := strings.Join(words, " or ")
	if n := len(words); n > 2 {
		what = strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return p.want(what, func(s string) bool { return slices.Contains(words, s) }, words...)
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

// number reads a sample's value, which may be below zero.
func (p *parser) number() float64 {
	var v float64
	p.want("a number", func(s string) bool {
		parsed, fine := decimal(strings.TrimPrefix(s, "-"))
		if v = parsed; strings.HasPrefix(s, "-") {
			v = -v
		}
		return fine && !math.IsInf(parsed, 0)
	})
	return v
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

// unit is what a number with this suffix is multiplied by.
type unit struct {
	suffix string
	by     float64
}

var ( // a longer suffix stands before one that it ends in
	units = []unit{
		{"us", float64(time.Microsecond)}, {"ms", float64(time.Millisecond)}, {"s", float64(time.Second)},
		{"m", float64(time.Minute)}, {"h", float64(time.Hour)}, {"d", 24 * float64(time.Hour)},
	}
	sizes = []unit{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}
	cpus  = []unit{{"m", 0.001}, {"", 1}}
)

// quantity reads a number above zero with its unit.
func (p *parser) quantity(what string, all []unit) float64 {
	var v float64
	p.want(what, func(s string) bool {
		for _, u := range all {
			if number, ok := strings.CutSuffix(s, u.suffix); ok {
				parsed, fine := decimal(number)
				v = parsed * u.by
				return fine && v > 0 && v < float64(1<<62)
			}
		}
		return false
	})
	return v
}

func (p *parser) duration() time.Duration {
	column := p.next()
	d := time.Duration(p.quantity("a duration such as 100ms or 7d", units))
	if d == 0 {
		p.fail(column.column, fmt.Sprintf("%q should be a duration such as 100ms or 7d", column.text))
	}
	return d
}

func (p *parser) bytes() int64   { return int64(p.quantity("a size such as 50MiB", sizes)) }
func (p *parser) cores() float64 { return p.quantity("CPU cores such as 100m or 0.5", cpus) }

func (p *parser) quoted(what string) string {
	t := p.take()
	switch {
	case t.open:
		p.fail(t.column, "this quote is not closed")
	case !t.quoted && t.text == "":
		p.fail(t.column, "here is missing "+what)
	case !t.quoted:
		p.fail(t.column, fmt.Sprintf("%q should be %s", t.text, what))
	}
	return t.text
}

// names reads one name or several.
func (p *parser) names(what string) []Name {
	var names []Name
	for {
		column := p.next().column
		name := p.want(what, named)
		if p.err != nil {
			return nil
		}
		if slices.ContainsFunc(names, func(n Name) bool { return n.Name == name }) {
			kind := strings.TrimSuffix(strings.TrimPrefix(what, "a "), "'s name")
			p.fail(column, fmt.Sprintf("%s %q is named twice", kind, name))
		}
		names = append(names, Name{name, column})
		if p.next().text != "," {
			return names
		}
		p.take()
	}
}

// named tells whether s can be a name: of a phase, a route, a version, a pod.
func named(s string) bool {
	return s != "" && isWord(rune(s[0])) && !strings.ContainsFunc(s, func(r rune) bool {
		return !isWord(r) && !strings.ContainsRune("-._", r)
	})
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
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

package budget

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/exp/ebnf"
)

// grammar reads the one that docs/scenarios.md shows.
func grammar(t testing.TB) ebnf.Grammar {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "scenarios.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(string(raw), "```ebnf\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "```")
	g, err := ebnf.Parse("docs/scenarios.md", strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, ebnf.Verify(g, "Budget"))
	return g
}

func capital(name string) bool { return name[0] >= 'A' && name[0] <= 'Z' }

// sentences draws budgets from a grammar.
type sentences struct {
	grammar ebnf.Grammar
	draw    *rand.Rand
}

// of returns one sentence of e as its tokens.
func (s sentences) of(e ebnf.Expression) []string {
	var all []string
	switch e := e.(type) {
	case ebnf.Alternative:
		return s.of(e[s.draw.IntN(len(e))])
	case ebnf.Sequence:
		for _, part := range e {
			all = append(all, s.of(part)...)
		}
	case *ebnf.Name:
		all = s.of(s.grammar[e.String].Expr)
		if !capital(e.String) {
			return []string{strings.Join(all, "")}
		}
	case *ebnf.Token:
		return []string{e.String}
	case *ebnf.Range:
		from, to := e.Begin.String[0], e.End.String[0]
		return []string{string(from + byte(s.draw.IntN(int(to-from)+1)))}
	case *ebnf.Group:
		return s.of(e.Body)
	case *ebnf.Option:
		if s.draw.IntN(2) == 0 {
			return s.of(e.Body)
		}
	case *ebnf.Repetition:
		for s.draw.IntN(3) == 0 {
			all = append(all, s.of(e.Body)...)
		}
	}
	return all
}

// sensible are complaints about what the text below the grammar says.
var sensible = []string{
	"should be a percentage", "should be a percentile", "should be a duration", "should be a size", "should be CPU cores",
	"no number of requests shows", "an availability of 0 %", "what is shown lies between", "is named twice", "is given twice",
	"should be a whole number", "should be a step's name, and after #",
}

func TestEverySentenceOfTheGrammarIsUnderstood(t *testing.T) {
	g := grammar(t)
	s := sentences{g, rand.New(rand.NewPCG(1, 2))}
	subjects := map[Subject]int{}
	for range 20_000 {
		text := strings.Join(s.of(g["Budget"].Expr), " ")
		b, err := Parse(text)
		if err == nil {
			subjects[b.Subject]++
			require.NotEmpty(t, b.Explain([]string{"soak"}), text)
			require.NotEmpty(t, b.Evidence(), text)
			continue
		}
		known := false
		for _, words := range sensible {
			known = known || strings.Contains(err.Error(), words)
		}
		require.True(t, known, "%s: %v", text, err)
	}
	for _, r := range rules {
		require.Positive(t, subjects[r.subject], "the grammar has no %q", r.subject)
	}
}

// derives tells whether the grammar's expression gives some prefix of the
// tokens, and calls rest with what may be left.
func derives(g ebnf.Grammar, e ebnf.Expression, tokens []string, rest func([]string) bool) bool {
	switch e := e.(type) {
	case ebnf.Alternative:
		for _, one := range e {
			if derives(g, one, tokens, rest) {
				return true
			}
		}
		return false
	case ebnf.Sequence:
		if len(e) == 0 {
			return rest(tokens)
		}
		return derives(g, e[0], tokens, func(left []string) bool { return derives(g, e[1:], left, rest) })
	case *ebnf.Name:
		if capital(e.String) {
			return derives(g, g[e.String].Expr, tokens, rest)
		}
		return len(tokens) > 0 && spells(g, e, tokens[0], func(left string) bool { return left == "" }) && rest(tokens[1:])
	case *ebnf.Token:
		return len(tokens) > 0 && tokens[0] == e.String && rest(tokens[1:])
	case *ebnf.Group:
		return derives(g, e.Body, tokens, rest)
	case *ebnf.Option:
		return derives(g, e.Body, tokens, rest) || rest(tokens)
	case *ebnf.Repetition:
		return derives(g, e.Body, tokens, func(left []string) bool {
			return len(left) < len(tokens) && derives(g, e, left, rest)
		}) || rest(tokens)
	}
	return false
}

// spells is derives for the letters of one token.
func spells(g ebnf.Grammar, e ebnf.Expression, text string, rest func(string) bool) bool {
	switch e := e.(type) {
	case ebnf.Alternative:
		for _, one := range e {
			if spells(g, one, text, rest) {
				return true
			}
		}
		return false
	case ebnf.Sequence:
		if len(e) == 0 {
			return rest(text)
		}
		return spells(g, e[0], text, func(left string) bool { return spells(g, e[1:], left, rest) })
	case *ebnf.Name:
		return spells(g, g[e.String].Expr, text, rest)
	case *ebnf.Token:
		left, found := strings.CutPrefix(text, e.String)
		return found && rest(left)
	case *ebnf.Range:
		return text != "" && text[0] >= e.Begin.String[0] && text[0] <= e.End.String[0] && rest(text[1:])
	case *ebnf.Group:
		return spells(g, e.Body, text, rest)
	case *ebnf.Option:
		return spells(g, e.Body, text, rest) || rest(text)
	case *ebnf.Repetition:
		return spells(g, e.Body, text, func(left string) bool { return len(left) < len(text) && spells(g, e, left, rest) }) || rest(text)
	}
	return false
}

func TestWhatIsUnderstoodIsASentenceOfTheGrammar(t *testing.T) {
	g := grammar(t)
	s := sentences{g, rand.New(rand.NewPCG(3, 4))}
	understood := func(tokens []string) bool {
		_, err := Parse(strings.Join(tokens, " "))
		return err == nil
	}
	sentence := func(tokens []string) bool {
		return derives(g, g["Budget"].Expr, tokens, func(left []string) bool { return len(left) == 0 })
	}
	accepted := 0
	for range 5_000 {
		tokens := s.of(g["Budget"].Expr)
		require.True(t, sentence(tokens), tokens)
		other := s.of(g["Budget"].Expr)
		at := s.draw.IntN(len(tokens))
		switch s.draw.IntN(4) { // a slip: one left out, doubled, exchanged, or another line's end
		case 0:
			tokens = append(tokens[:at:at], tokens[at+1:]...)
		case 1:
			tokens = append(tokens[:at+1:at+1], tokens[at:]...)
		case 2:
			tokens[at] = other[s.draw.IntN(len(other))]
		default:
			tokens = append(tokens[:at:at], other[s.draw.IntN(len(other)):]...)
		}
		if understood(tokens) {
			accepted++
			require.True(t, sentence(tokens), strings.Join(tokens, " "))
		}
	}
	require.Greater(t, accepted, 100)
}

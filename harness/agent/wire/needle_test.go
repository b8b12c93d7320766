package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestANeedleIsFoundHoweverTheStreamIsCut(t *testing.T) {
	needles := []Needle{{"first", []byte("canary-one")}, {"second", []byte("canary-second")}}
	text := []byte("..canary-one..canary-second.canary-onecanary-one....")
	for size := 1; size <= len(text); size++ {
		s, counts := newSearcher(needles), map[int]int{}
		var tail []byte
		for at := 0; at < len(text); at += size {
			tail = s.search(tail, text[at:min(at+size, len(text))], func(i int) { counts[i]++ })
		}
		require.Equal(t, map[int]int{0: 3, 1: 1}, counts, "pieces of %d", size)
	}
}

func TestANeedleIsReadAsItIsWritten(t *testing.T) {
	n := Needle{"run", []byte("0123456789")}
	got, err := ParseNeedle(n.String())
	require.NoError(t, err)
	require.Equal(t, n, got)
	for name, word := range map[string]string{
		"no name": "=3031323334353637", "no digits": "run=xy", "too short": "run=3031", "no sign": "run",
		"too long": "run=" + strings.Repeat("30", longestNeedle+1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseNeedle(word)
			require.ErrorContains(t, err, "is not NAME=HEX")
		})
	}
}

func FuzzSearch(f *testing.F) {
	f.Add([]byte("abcabcababc"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, cut uint8) {
		s := newSearcher([]Needle{{"a", []byte("abcab")}})
		whole, pieces := 0, 0
		s.search(nil, text, func(int) { whole++ })
		var tail []byte
		for rest := text; len(rest) > 0; {
			n := min(int(cut)%7+1, len(rest))
			tail = s.search(tail, bytes.Clone(rest[:n]), func(int) { pieces++ })
			rest = rest[n:]
		}
		require.Equal(t, whole, pieces)
	})
}

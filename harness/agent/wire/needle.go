package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// Needle is a string that the traffic has planted, in one of the forms that it
// takes on the wire.
type Needle struct {
	Name  string
	Bytes []byte
}

// Lengths of a needle: shorter ones turn up by chance in what is encrypted.
const (
	shortestNeedle = 8
	longestNeedle  = 128
	mostNeedles    = 16
)

// String is the needle as ParseNeedle reads it.
func (n Needle) String() string { return n.Name + "=" + hex.EncodeToString(n.Bytes) }

// ParseNeedle reads NAME=HEX.
func ParseNeedle(word string) (Needle, error) {
	name, digits, ok := strings.Cut(word, "=")
	raw, err := hex.DecodeString(digits)
	if !ok || name == "" || err != nil || len(raw) < shortestNeedle || len(raw) > longestNeedle {
		return Needle{}, fmt.Errorf("needle %q is not NAME=HEX of %d to %d bytes", name, shortestNeedle, longestNeedle)
	}
	return Needle{Name: name, Bytes: raw}, nil
}

// searcher looks for needles in a stream that comes in pieces.
type searcher struct {
	needles []Needle
	longest int
}

func newSearcher(needles []Needle) searcher {
	s := searcher{needles: needles}
	for _, n := range needles {
		s.longest = max(s.longest, len(n.Bytes))
	}
	return s
}

// search counts the needles that end in piece. tail is what came before it, as
// the last search returned it; the new one takes its place.
func (s searcher) search(tail, piece []byte, found func(needle int)) []byte {
	if s.longest == 0 {
		return nil
	}
	var room [2 * longestNeedle]byte
	seam := append(room[:0], tail...)
	seam = append(seam, piece[:min(len(piece), s.longest-1)]...)
	for i, n := range s.needles {
		each(seam, n.Bytes, func(at int) {
			if at < len(tail) && at+len(n.Bytes) > len(tail) {
				found(i)
			}
		})
		each(piece, n.Bytes, func(int) { found(i) })
	}
	if len(piece) >= s.longest-1 {
		return append(tail[:0], piece[len(piece)-(s.longest-1):]...)
	}
	seam = append(append(room[:0], tail...), piece...)
	return append(tail[:0], seam[max(0, len(seam)-(s.longest-1)):]...)
}

// each tells every place of needle in text.
func each(text, needle []byte, at func(int)) {
	for from := 0; ; {
		i := bytes.Index(text[from:], needle)
		if i < 0 {
			return
		}
		at(from + i)
		from += i + 1
	}
}

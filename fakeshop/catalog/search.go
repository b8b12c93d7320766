package catalog

import (
	"math/bits"
	"strings"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

const (
	searchLimit = 20
	queryLimit  = 100 // bytes
)

// index knows which products have which words. There are few different words
// in a catalogue, so that looking through them all is quick.
type index struct {
	size  int
	words map[string]*where
}

// where is a word's products.
type where struct{ anywhere, inName set }

// set is a set of products, by their places.
type set []uint64

func newSet(size int) set { return make(set, (size+63)/64) }

func (s set) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s set) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }

func newIndex(products []Product) index {
	x := index{size: len(products), words: map[string]*where{}}
	at := func(word string) *where {
		w := x.words[word]
		if w == nil {
			w = &where{anywhere: newSet(x.size), inName: newSet(x.size)}
			x.words[word] = w
		}
		return w
	}
	for i, p := range products {
		for word := range strings.FieldsSeq(strings.ToLower(p.Name)) {
			at(word).inName.add(i)
			at(word).anywhere.add(i)
		}
		for word := range strings.FieldsSeq(strings.ToLower(p.Category + " " + p.Description)) {
			at(word).anywhere.add(i)
		}
	}
	return x
}

// find returns the products that have the text in a word.
func (x index) find(text string) where {
	found := where{newSet(x.size), newSet(x.size)}
	for word, w := range x.words {
		if strings.Contains(word, text) {
			for i := range found.anywhere {
				found.anywhere[i] |= w.anywhere[i]
				found.inName[i] |= w.inName[i]
			}
		}
	}
	return found
}

// search returns the places of the products that have every word of the query;
// those that have the first one in their name come first.
func (c *snapshot) search(query string) ([]int, error) {
	wanted := strings.Fields(strings.ToLower(query))
	if len(wanted) == 0 || len(query) > queryLimit {
		return nil, fail.New(codes.InvalidArgument, "", "the query must have 1 to %d characters", queryLimit)
	}
	first := c.words.find(wanted[0])
	all := first.anywhere
	for _, word := range wanted[1:] {
		for i, places := range c.words.find(word).anywhere {
			all[i] &= places
		}
	}
	var named, others []int
	for i := range all.places {
		switch {
		case first.inName.has(i):
			named = append(named, i)
		case len(others) < searchLimit:
			others = append(others, i)
		}
		if len(named) == searchLimit {
			break
		}
	}
	found := append(named, others...)
	return found[:min(len(found), searchLimit)], nil
}

// places walks over a set.
func (s set) places(yield func(int) bool) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(64*i + bits.TrailingZeros64(word)) {
				return
			}
		}
	}
}

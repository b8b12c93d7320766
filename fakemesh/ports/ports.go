// Package ports reads the lists of ports that annotations and flags hold,
// such as "25,587,9300-9400".
package ports

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is a run of ports, both ends in it.
type Range struct{ First, Last uint16 }

// Set is a set of ports. The nil Set is empty.
type Set []Range

// Parse reads ports and ranges with commas between them; blanks and empty
// items are passed over.
func Parse(text string) (Set, error) {
	var set Set
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		from, err := number(first)
		if err != nil {
			return nil, fmt.Errorf("port list %q: %w", text, err)
		}
		to := from
		if isRange {
			if to, err = number(last); err != nil {
				return nil, fmt.Errorf("port list %q: %w", text, err)
			}
		}
		if to < from {
			return nil, fmt.Errorf("port list %q: range %q runs backwards", text, item)
		}
		set = append(set, Range{from, to})
	}
	return set, nil
}

func number(s string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}

// Has says whether port is in the set.
func (s Set) Has(port uint16) bool {
	return slices.ContainsFunc(s, func(r Range) bool { return r.First <= port && port <= r.Last })
}

// String writes the set as Parse reads it.
func (s Set) String() string {
	items := make([]string, len(s))
	for i, r := range s {
		items[i] = strconv.Itoa(int(r.First))
		if r.Last != r.First {
			items[i] += "-" + strconv.Itoa(int(r.Last))
		}
	}
	return strings.Join(items, ",")
}

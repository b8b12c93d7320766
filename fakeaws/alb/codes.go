package alb

import (
	"fmt"
	"strconv"
	"strings"
)

// codes is a set of codes such as "200,300-302"; the text is kept so that
// specs compare by ==.
type codes string

// parseCodes checks the form of a set of codes from low to high.
func parseCodes(s string, low, high int) (codes, error) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, err := parseRange(part)
		if err != nil {
			return "", err
		}
		if from < low || to > high {
			return "", fmt.Errorf("%q is not within %d-%d", part, low, high)
		}
	}
	return codes(s), nil
}

// parseRange reads "200" or "200-204".
func parseRange(part string) (from, to int, err error) {
	first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
	if from, err = parseCode(first); err != nil {
		return 0, 0, fmt.Errorf("%q is not a code or a range of codes", part)
	}
	if !isRange {
		return from, from, nil
	}
	if to, err = parseCode(last); err != nil || to < from {
		return 0, 0, fmt.Errorf("%q is not a range of codes", part)
	}
	return from, to, nil
}

func parseCode(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}

// has tells whether code is in the set.
func (c codes) has(code int) bool {
	for part := range strings.SplitSeq(string(c), ",") {
		if from, to, err := parseRange(part); err == nil && code >= from && code <= to {
			return true
		}
	}
	return false
}

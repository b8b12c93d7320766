package budget

import (
	"fmt"
	"strings"
	"unicode"
)

// didYouMean ends a complaint with the word that was hardly meant otherwise.
func didYouMean(written string, words []string) string {
	if near, _ := nearest(written, words); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// Nearest returns the word that written is most likely a slip of, "" when it is
// like none.
func Nearest(written string, words []string) string {
	near, _ := nearest(written, words)
	return near
}

// nearest also tells by how many slips the two differ. A third of the letters
// may be wrong.
func nearest(written string, words []string) (near string, slips int) {
	if !strings.ContainsFunc(written, unicode.IsLetter) {
		return "", 0 // an operator has no slips
	}
	slips = len([]rune(written))/3 + 1
	for _, w := range words {
		if n := distance([]rune(written), []rune(w)); n > 0 && n < slips+1 && n < len([]rune(w)) && (near == "" || n < slips) {
			near, slips = w, n
		}
	}
	return near, slips
}

// distance counts the letters to be put in, left out, changed or swapped with
// their neighbour.
func distance(a, b []rune) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

package results

import (
	"strings"
	"unicode"
)

// OneLine keeps line ends, control characters and marks that turn the writing
// direction out of what a terminal or a page is shown of a record.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)
	}), " ")
}

package results_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestOneLineHoldsNothingThatSteersATerminal(t *testing.T) {
	for given, want := range map[string]string{
		"":                                "",
		"plain words stay":                "plain words stay",
		"two\nlines\tand \r\n a tab":      "two lines and a tab",
		"\x1b[31mred\x1b[0m":              "[31mred [0m",
		"turned\u202eround":               "turned round",
		"é, × and … are letters like any": "é, × and … are letters like any",
	} {
		require.Equal(t, want, results.OneLine(given), "%q", given)
	}
}

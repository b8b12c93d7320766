package alb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCodeSetsHoldWhatTheyList(t *testing.T) {
	for _, c := range []struct {
		set       string
		low, high int
		in, out   []int
	}{
		{"200", 200, 499, []int{200}, []int{201, 0}},
		{"200,302", 200, 499, []int{200, 302}, []int{301}},
		{"200-299, 404", 200, 499, []int{200, 250, 299, 404}, []int{300, 199}},
		{"0-99", 0, 99, []int{0, 12, 99}, []int{100}},
	} {
		set, err := parseCodes(c.set, c.low, c.high)
		require.NoError(t, err)
		for _, code := range c.in {
			require.True(t, set.has(code), "%s has %d", c.set, code)
		}
		for _, code := range c.out {
			require.False(t, set.has(code), "%s has not %d", c.set, code)
		}
	}
	for _, bad := range []string{"", "x", "200-", "-200", "300-200", "200,,300", "99999", "199", "400-500"} {
		_, err := parseCodes(bad, 200, 499)
		require.Error(t, err, bad)
	}
}

func FuzzCodes(f *testing.F) {
	for _, s := range []string{"200", "200,300-302", "0-99", " 1 , 2-3"} {
		f.Add(s, 200)
	}
	f.Fuzz(func(t *testing.T, s string, code int) {
		set, err := parseCodes(s, 0, 499)
		if err == nil && (code < 0 || code > 499) && set.has(code) {
			t.Fatalf("%q has %d", s, code)
		}
	})
}

package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListsOfPortsAreRead(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want Set
		err  string
	}{
		"nothing":             {"", nil, ""},
		"one":                 {"5432", Set{{5432, 5432}}, ""},
		"several with blanks": {" 25 ,587,, 3306", Set{{25, 25}, {587, 587}, {3306, 3306}}, ""},
		"a range":             {"9300-9400", Set{{9300, 9400}}, ""},
		"a word":              {"http", nil, `"http" is no port`},
		"zero":                {"0", nil, `"0" is no port`},
		"too high":            {"65536", nil, `"65536" is no port`},
		"a range backwards":   {"9-8", nil, "runs backwards"},
		"half a range":        {"9-", nil, `"" is no port`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.in)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestASetHasItsPortsAndNoOthers(t *testing.T) {
	s := Set{{25, 25}, {9300, 9302}}
	for port, want := range map[uint16]bool{24: false, 25: true, 26: false, 9299: false, 9300: true, 9301: true, 9302: true, 9303: false} {
		require.Equal(t, want, s.Has(port), port)
	}
	require.False(t, Set(nil).Has(1))
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1", "25,587,9300-9400", "a-b", "-", "1-2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(set.String())
		if err != nil || again.String() != set.String() {
			t.Fatalf("%q became %q (%v)", set, again, err)
		}
	})
}

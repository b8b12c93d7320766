package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheTableHoldsARowALine(t *testing.T) {
	r := &Report{Facts: []Fact{{"mesh", "linkerd stable-2.14.10"}, {"Kubernetes", "v1.24.17"}}}
	for _, id := range []string{"R1", "R9", "P1", "P2"} {
		r.Set(Row{ID: id, Says: "says " + id, Expected: "none fails", Outcome: NotRun})
	}
	r.Set(Row{ID: "R1", Says: "says R1", Expected: "none fails", Seen: "20 of 20\nanswered", Outcome: Pass})
	r.Set(Row{ID: "R9", Says: "a|b", Expected: "<x>", Seen: "the host has ip_tables", Outcome: NotApplicable})
	r.Set(Row{ID: "P1", Says: "*", Seen: strings.Repeat("é", 400), Outcome: Fail})

	var out strings.Builder
	require.NoError(t, r.Markdown(&out))
	require.Equal(t, `- mesh: linkerd stable-2.14.10
- Kubernetes: v1.24.17
- 4 rows: 1 pass, 1 fail, 1 not applicable, 1 not run

| id | what | expected | seen | outcome |
|---|---|---|---|---|
| R1 | says R1 | none fails | 20 of 20 answered | pass |
| R9 | a\|b | &lt;x&gt; | the host has ip_tables | not applicable |
| P1 | \* |  | `+strings.Repeat("é", 300)+` … | fail |
| P2 | says P2 | none fails |  | not run |
`, out.String())
}

func TestOutcomesAreCounted(t *testing.T) {
	r := &Report{Rows: []Row{{ID: "a", Outcome: Pass}, {ID: "b", Outcome: Pass}, {ID: "c", Outcome: Fail}}}
	require.Equal(t, []int{2, 1, 0}, []int{r.Count(Pass), r.Count(Fail), r.Count(NotRun)})
	require.Equal(t, "3 rows: 2 pass, 1 fail", r.Summary())
}

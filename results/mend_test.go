package results

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARunThatIsCutOffIsReadAsFarAsItGoes(t *testing.T) {
	for text, want := range map[string]string{
		``:                                `{}`,
		`{`:                               `{}`,
		`{"a`:                             `{}`,
		`{"a"`:                            `{}`,
		`{"a":`:                           `{}`,
		`{"a":1`:                          `{}`,
		`{"a":1,`:                         `{"a":1}`,
		`{"a":tru`:                        `{}`,
		`{"a":true`:                       `{"a":true}`,
		`{"a":"x`:                         `{}`,
		`{"a":"x"`:                        `{"a":"x"}`,
		`{"a":"x","b":[1,2`:               `{"a":"x","b":[1]}`,
		`{"a":"x","b":["y","z\`:           `{"a":"x","b":["y"]}`,
		`{"a":{"b":{"c":"d"},"e":{"f`:     `{"a":{"b":{"c":"d"},"e":{}}}`,
		`{"a":[{"b":"c"},{"d":"e"}`:       `{"a":[{"b":"c"},{"d":"e"}]}`,
		"{\n \"a\": \"x\",\n \"b\": null": `{"a":"x","b":null}`,
		`{"a":"x"}`:                       `{"a":"x"}`, // without its line's end
	} {
		got, cut := mend([]byte(text))
		require.JSONEq(t, want, string(got), text)
		require.True(t, cut, text)
	}
	got, cut := mend([]byte("{\"a\":1}\n"))
	require.Equal(t, "{\"a\":1}\n", string(got))
	require.False(t, cut)
	got, cut = mend([]byte("{\"a\":rubbish}\n"))
	require.Equal(t, "{\"a\":rubbish}\n", string(got), "what is wrong in the middle is no cut")
	require.False(t, cut)
}

func TestARunIsReadWhereverItIsCut(t *testing.T) {
	f := newFolder(t)
	require.NoError(t, f.WriteRun(Run{
		ID: f.ID, Scenario: "demo", StartedAt: time.Unix(0, 0).UTC(), EndedAt: time.Unix(9, 0).UTC(), Seed: 123,
		Notes: []string{"a", "b"}, Budgets: []string{"failed requests = 0", "availability >= 99%"},
		Phases: []PhasePlan{{Name: "one", Scale: 1, Judged: true}, {Name: "two", Scale: 2.5}},
	}))
	require.NoError(t, f.Close())
	path := filepath.Join(f.Path, RunFile)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	whole, err := f.Run()
	require.NoError(t, err)
	require.False(t, whole.Cut)
	for size := range raw {
		require.NoError(t, os.WriteFile(path, raw[:size], 0o644))
		opened, err := Open(f.Path)
		require.NoError(t, err, "cut at %d", size)
		got, err := opened.Run()
		require.NoError(t, err)
		require.True(t, got.Cut)
		for i, b := range got.Budgets {
			require.Equal(t, whole.Budgets[i], b, "cut at %d", size)
		}
		if got.Seed != 0 {
			require.Equal(t, whole.Seed, got.Seed, "no number is cut short")
		}
	}
}

func FuzzMend(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":"c`, `{"a":1}`, `[[[`, `{"a":"\u00`, `{"a" 1`, "{}\n{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, cut := mend(raw)
		if cut && !json.Valid(got) {
			t.Fatalf("%q was mended to %q, which is no JSON", raw, got)
		}
	})
}

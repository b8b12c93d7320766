package results

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	generator "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite verdict.schema.json from the Go types")

// generated makes the schema from the types and their comments.
func generated(t *testing.T) []byte {
	r := &generator.Reflector{Anonymous: true}
	require.NoError(t, r.AddGoComments("meshsim.dev/meshsim/results", "."))
	for name, text := range r.CommentMap {
		r.CommentMap[name] = oneParagraph(text)
	}
	s := r.Reflect(Verdict{})
	s.ID = "https://meshsim.dev/schemas/v1alpha1/verdict.schema.json"
	s.Title = "verdict.json of a meshsim run"
	judgement, ok := s.Definitions["Judgement"]
	if !ok {
		judgement = &generator.Schema{Type: "string"}
		s.Definitions["Judgement"] = judgement
	}
	judgement.Enum = []any{Pass, Fail, Inconclusive}
	for _, holder := range []string{"Verdict", "BudgetVerdict"} {
		p, ok := s.Definitions[holder].Properties.Get("verdict")
		require.True(t, ok)
		p.Type, p.Ref = "", "#/$defs/Judgement"
	}
	// A later meshsim may say more; whoever reads an older one is not to refuse it.
	for _, d := range s.Definitions {
		d.AdditionalProperties = nil
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return append(raw, '\n')
}

func oneParagraph(text string) string {
	return string(bytes.Join(bytes.Fields([]byte(text)), []byte(" ")))
}

func TestThePublishedSchemaIsWhatTheTypesSay(t *testing.T) {
	got := generated(t)
	if *update {
		require.NoError(t, os.WriteFile("verdict.schema.json", got, 0o644))
		return
	}
	require.Equal(t, string(VerdictSchema), string(got), "go generate ./results rewrites it")
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(VerdictSchema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("verdict.schema.json", doc))
	s, err := c.Compile("verdict.schema.json")
	require.NoError(t, err)
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, raw []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	return s.Validate(doc)
}

func TestVerdictsOfEveryKindKeepToTheSchema(t *testing.T) {
	s := compiled(t)
	for _, name := range []string{"pass", "fail", "inconclusive"} {
		raw, err := os.ReadFile(filepath.Join("report", "testdata", name+".json"))
		require.NoError(t, err)
		var sample struct{ Verdict json.RawMessage }
		require.NoError(t, json.Unmarshal(raw, &sample))
		require.NoError(t, validate(t, s, sample.Verdict), name)
	}
	empty, err := json.Marshal(Verdict{
		Verdict: Inconclusive, StandIns: []string{}, Phases: []PhaseFigures{}, Budgets: []BudgetVerdict{}, Causes: []Cause{},
		Timeline: Timeline{Buckets: []Bucket{}},
	})
	require.NoError(t, err)
	require.NoError(t, validate(t, s, empty))
}

func TestWhatIsNoVerdictIsRefusedByTheSchema(t *testing.T) {
	s := compiled(t)
	whole, err := json.Marshal(Verdict{
		Verdict: Pass, StandIns: []string{}, Phases: []PhaseFigures{}, Budgets: []BudgetVerdict{}, Causes: []Cause{}, Timeline: Timeline{Buckets: []Bucket{}},
	})
	require.NoError(t, err)
	for name, change := range map[string]func(map[string]any){
		"an unknown judgement":    func(v map[string]any) { v["verdict"] = "fine" },
		"no requests":             func(v map[string]any) { delete(v, "requests") },
		"budgets of a wrong sort": func(v map[string]any) { v["budgets"] = "none" },
		"a count that is a word":  func(v map[string]any) { v["requests"].(map[string]any)["failed"] = "3" },
	} {
		t.Run(name, func(t *testing.T) {
			var v map[string]any
			require.NoError(t, json.Unmarshal(whole, &v))
			change(v)
			raw, err := json.Marshal(v)
			require.NoError(t, err)
			require.Error(t, validate(t, s, raw))
		})
	}
	var later map[string]any
	require.NoError(t, json.Unmarshal(whole, &later))
	later["more"] = 1
	raw, err := json.Marshal(later)
	require.NoError(t, err)
	require.NoError(t, validate(t, s, raw), "a later version may say more")
}

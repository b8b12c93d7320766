package scenarios_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios"
)

func TestTheDocumentsScenarioIsOne(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "docs", "scenarios.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(raw), "```yaml\n")
	require.True(t, found)
	text, _, _ := strings.Cut(rest, "```\n")
	s, err := scenarios.Parse("docs/scenarios.md", []byte(text))
	require.NoError(t, err)
	require.Equal(t, "mtls-rollout", s.Metadata.Name)
	require.Len(t, s.Spec.Phases, 3)
}

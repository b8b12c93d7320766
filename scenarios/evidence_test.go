package scenarios

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEvidenceIsTakenWhereItIsAskedFor(t *testing.T) {
	s, err := Parse("x.yaml", []byte(smallest))
	require.NoError(t, err)
	require.Equal(t, Evidence{}, s.Spec.Evidence, "none unless asked for")
	s, err = Parse("x.yaml", []byte(strings.Replace(smallest, "spec:\n", "spec:\n  evidence: {wire: true}\n", 1)))
	require.NoError(t, err)
	require.Equal(t, Evidence{Wire: true}, s.Spec.Evidence)
}

func TestTheRolloutProvesWhatItClaims(t *testing.T) {
	for _, name := range []string{"mtls-rollout", "mtls-rollout-ci"} {
		s, err := Load(name)
		require.NoError(t, err)
		require.Equal(t, Evidence{Wire: true, Identities: true}, s.Spec.Evidence, name)
		var said []string
		for _, p := range s.Spec.Phases {
			for _, step := range p.Steps {
				said = append(said, step.String())
			}
		}
		require.Contains(t, said, "enforce all-authenticated, declared callers only", name)
		require.Contains(t, said, "probe-authorisation", name)
	}
}

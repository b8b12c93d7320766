package harness

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

func newTestRecorder(t *testing.T) *recorder {
	t.Helper()
	folder, err := results.Create(t.TempDir(), "run")
	require.NoError(t, err)
	require.NoError(t, folder.WriteRun(results.Run{ID: "run"}))
	return newRecorder(folder)
}

func TestARequestBelongsToThePhaseOfItsScheduledInstant(t *testing.T) {
	r := newTestRecorder(t)
	r.marks = []mark{{at: 10, phase: "baseline"}, {at: 20, phase: "inject"}}
	for at, want := range map[int64]string{9: "", 10: "baseline", 19: "baseline", 20: "inject", 1 << 40: "inject"} {
		require.Equal(t, want, r.PhaseAt(at), at)
	}
}

func TestEnteringAPhaseChangesTheScaleAndIsMarked(t *testing.T) {
	r := newTestRecorder(t)
	require.Zero(t, r.ScaleAt(r.now()), "nothing is sent before the first phase")
	r.enter("soak", 2)
	require.Equal(t, 2.0, r.ScaleAt(r.now()))
	require.NoError(t, r.Probe("mtls", results.MTLS{TLS: 3}))
	r.leave("soak")
	require.NoError(t, r.folder.Close())

	events, _, err := r.folder.Events()
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, []string{results.PhaseBegin, results.PhaseEnd}, []string{events[0].Kind, events[1].Kind})
	probes, _, err := r.folder.Probes()
	require.NoError(t, err)
	require.Len(t, probes, 1)
	require.Equal(t, "soak", probes[0].Phase)
	require.JSONEq(t, `{"phase":"","tls":3,"plain":0}`, string(probes[0].Data))
}

func TestARecordThatCannotBeWrittenIsRemembered(t *testing.T) {
	r := newTestRecorder(t)
	require.NoError(t, r.folder.Close())
	r.Note("too late")
	require.True(t, errors.Is(r.err(), os.ErrClosed), r.err())
}

func TestTheMeshStandsInTheEndWhenItWasNotTakenAwayAgain(t *testing.T) {
	install, uninstall := scenarios.Step{Options: &scenarios.Install{Component: "mesh"}}, scenarios.Step{Options: &scenarios.UninstallMesh{}}
	for name, c := range map[string]struct {
		steps []scenarios.Step
		want  bool
	}{
		"never there":    {[]scenarios.Step{{Options: &scenarios.Install{Component: "vault"}}}, false},
		"installed":      {[]scenarios.Step{install}, true},
		"taken away":     {[]scenarios.Step{install, uninstall}, false},
		"and back again": {[]scenarios.Step{install, uninstall, install, {Options: &scenarios.UpgradeMesh{}}}, true},
	} {
		s := &scenarios.Scenario{Spec: scenarios.Spec{Phases: []scenarios.Phase{{Steps: c.steps[:1]}, {Steps: c.steps[1:]}}}}
		require.Equal(t, c.want, meshStands(s), name)
	}
}

func TestAStandInNeverPosesAsTheRealThing(t *testing.T) {
	require.Contains(t, standIns("fakemesh"), "fakemesh (in the place of Linkerd)")
	require.NotContains(t, standIns("linkerd"), "fakemesh (in the place of Linkerd)")
}

func TestAPhaseThatIsForeseenBeginsAtItsInstant(t *testing.T) {
	r := newTestRecorder(t)
	r.foresee(100, "baseline", 1)
	r.foresee(200, "soak", 2)
	r.foresee(300, "soak", 0)
	for at, want := range map[int64]mark{99: {}, 100: {100, "baseline", 1}, 250: {200, "soak", 2}, 300: {300, "soak", 0}} {
		require.Equal(t, []any{want.phase, want.scale}, []any{r.PhaseAt(at), r.ScaleAt(at)}, at)
	}
	r.begun(200, "soak")
	require.NoError(t, r.folder.Close())
	events, _, err := r.folder.Events()
	require.NoError(t, err)
	require.Equal(t, []results.Event{{At: 200, Kind: results.PhaseBegin, Name: "soak", Phase: "soak"}}, events)
}

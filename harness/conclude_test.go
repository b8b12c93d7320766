package harness

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/steps"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// broken is a rehearsal that ended early, on an API server that knows one pod of
// the shop and lets nobody exec.
func broken(t *testing.T) *rehearsal {
	t.Helper()
	pods := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "a-1"}}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !strings.HasSuffix(q.URL.Path, "/pods") {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(pods) // who does not wait for it does not want it
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	objects, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	folder, err := results.Create(t.TempDir(), "run")
	require.NoError(t, err)
	api := &kube.Client{Config: config, Clientset: client, Dynamic: objects}
	s := &scenarios.Scenario{}
	s.Spec.Phases = []scenarios.Phase{{Name: "stack", Steps: []scenarios.Step{{Options: &scenarios.Install{Component: "mesh"}}}}}
	r := &rehearsal{
		Options: Options{Scenario: s, Log: slog.New(slog.DiscardHandler), Progress: progress.New(io.Discard)},
		kube:    api, folder: folder, record: newRecorder(folder),
		early: limits{settle: time.Millisecond, probe: 50 * time.Millisecond, whole: 10 * time.Second},
	}
	r.env = &steps.Env{Kube: api, Stack: &stack.Env{Mesh: stack.MeshStandIn}, Rollout: steps.NewRollout(nil, nil), Record: r.record, Progress: r.Progress}
	r.record.enter("stack", 1)
	return r
}

// seen returns the names of what was observed and what was warned of.
func (r *rehearsal) seen(t *testing.T) (probes map[string]string, warnings map[string]string) {
	t.Helper()
	all, _, err := r.folder.Probes()
	require.NoError(t, err)
	events, _, err := r.folder.Events()
	require.NoError(t, err)
	probes, warnings = map[string]string{}, map[string]string{}
	for _, p := range all {
		require.Equal(t, "stack", p.Phase)
		probes[p.Probe] = string(p.Data)
	}
	for _, e := range events {
		if e.Kind == results.Warning {
			warnings[e.Name] = e.Detail
		}
	}
	return probes, warnings
}

func TestARunThatEndedEarlyIsLookedAtAlsoWhenItWasInterrupted(t *testing.T) {
	r := broken(t)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	r.lookBack(stopped)
	require.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, r.folder.Close())

	probes, warnings := r.seen(t)
	require.JSONEq(t, `{"pods":1,"injected":0,"missing":["a-1"]}`, probes[results.ProbeInjection])
	require.Contains(t, warnings[results.ProbeWarning(results.ProbeLedger)], "could not be taken", "the others are looked at all the same")
	require.Contains(t, warnings[results.ProbeWarning(results.ProbeIssuer)], "could not be taken")
}

func TestWhatIsLookedAtAfterAnEarlyEndEndsWithItsTime(t *testing.T) {
	r := broken(t)
	r.early.whole = time.Nanosecond
	r.lookBack(t.Context())
	require.NoError(t, r.folder.Close())
	_, warnings := r.seen(t)
	require.Equal(t, "not all that it left was looked at: it took longer than 1ns", warnings["the run ended early"])
}

func TestAnEarlyEndKeepsItsCauseAndStopsTheSender(t *testing.T) {
	r := broken(t)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	cause, ended := errors.New("vault did not come"), false
	err := r.conclude(stopped, cause, func() error { ended = true; return nil }, time.Hour)
	require.NoError(t, r.folder.Close())
	require.Equal(t, "vault did not come", err.Error(), "what could not be looked at is not why the run ended")
	require.True(t, ended)
	require.True(t, r.run.Interrupted)
	probes, _ := r.seen(t)
	require.Contains(t, probes, results.ProbeInjection)
}

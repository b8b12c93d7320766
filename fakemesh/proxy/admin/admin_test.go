package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

type nothing struct{}

func (nothing) Gather() ([]*dto.MetricFamily, error) { return nil, nil }

func TestThePathsOfTheContract(t *testing.T) {
	ready, shut, drained := false, 0, 0
	h := New(Options{Metrics: nothing{}, Ready: func() bool { return ready }, Shutdown: func() { shut++ }, Drain: func() { drained++ }})
	ask := func(method, path, from string) int {
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const here, there = "127.0.0.1:5", "10.1.2.3:5"
	require.Equal(t, 200, ask("GET", "/live", there))
	require.Equal(t, 503, ask("GET", "/ready", there))
	ready = true
	require.Equal(t, 200, ask("GET", "/ready", there))
	require.Equal(t, 200, ask("GET", "/metrics", there))
	require.Equal(t, 403, ask("POST", "/shutdown", there))
	require.Equal(t, 403, ask("POST", "/drain", there))
	require.Equal(t, 403, ask("POST", "/shutdown", "nonsense"))
	require.Equal(t, http.StatusMethodNotAllowed, ask("GET", "/shutdown", here))
	require.Zero(t, shut+drained)
	require.Equal(t, 200, ask("POST", "/shutdown", here))
	require.Equal(t, 200, ask("POST", "/drain", here))
	require.Equal(t, []int{1, 1}, []int{shut, drained})
	require.Equal(t, 404, ask("GET", "/debug/pprof/", here))
}

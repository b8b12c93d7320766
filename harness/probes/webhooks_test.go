package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/results"
)

// apiServer is one that counts what it is told to.
type apiServer struct {
	started                        int
	calls, open, closed, byItsWord int
	slow                           int // of the calls, those over 100 ms
	err                            error
	asked                          int
}

func (a *apiServer) metrics(context.Context) (io.ReadCloser, error) {
	a.asked++
	if a.err != nil {
		return nil, a.err
	}
	const name = `name="linkerd-proxy-injector.linkerd.io",type="admit"`
	text := fmt.Sprintf(`# HELP apiserver_request_total [STABLE] Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",verb="GET"} 1e+06
# TYPE process_start_time_seconds gauge
process_start_time_seconds %d
# HELP apiserver_admission_webhook_admission_duration_seconds [STABLE] Admission webhook latency histogram.
# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{%[2]s,operation="CREATE",rejected="false",le="0.1"} %[4]d
apiserver_admission_webhook_admission_duration_seconds_bucket{%[2]s,operation="CREATE",rejected="false",le="0.5"} %[3]d
apiserver_admission_webhook_admission_duration_seconds_bucket{%[2]s,operation="CREATE",rejected="false",le="+Inf"} %[3]d
apiserver_admission_webhook_admission_duration_seconds_sum{%[2]s,operation="CREATE",rejected="false"} %[5]g
apiserver_admission_webhook_admission_duration_seconds_count{%[2]s,operation="CREATE",rejected="false"} %[3]d
# TYPE apiserver_admission_webhook_rejection_count counter
apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",%[2]s,operation="CREATE",rejection_code="0"} %[6]d
apiserver_admission_webhook_rejection_count{error_type="no_error",%[2]s,operation="CREATE",rejection_code="400"} %[7]d
# TYPE apiserver_admission_webhook_fail_open_count counter
apiserver_admission_webhook_fail_open_count{%[2]s} %[8]d
`, a.started, name, a.calls, a.calls-a.slow, float64(a.calls)*0.02, a.closed, a.byItsWord, a.open)
	return io.NopCloser(strings.NewReader(text)), nil
}

func newWatch(a *apiServer) (w *WebhookWatch, told *[]results.Event) {
	var clock int64
	told = &[]results.Event{}
	return NewWebhookWatch(a.metrics, time.Hour, func() int64 { clock++; return clock }, func(e results.Event) { *told = append(*told, e) }), told
}

func TestWebhookCallsAreThoseSinceTheLastCut(t *testing.T) {
	a := &apiServer{started: 1, calls: 100, open: 7}
	w, told := newWatch(a)
	require.NoError(t, w.look(t.Context()))
	require.Empty(t, *told, "what was before the run is nothing of it")
	a.calls, a.slow = 110, 2
	require.NoError(t, w.look(t.Context()))
	a.calls, a.open, a.closed, a.byItsWord = 114, 9, 1, 1
	seen, err := w.Cut(t.Context(), "inject")
	require.NoError(t, err)
	whole := true
	require.Equal(t, results.Webhooks{Phase: "inject", From: 1, To: 3, Whole: &whole, Calls: []results.WebhookCalls{
		{Name: "linkerd-proxy-injector.linkerd.io", Type: "admit", Calls: 14, Rejected: 1, FailedClosed: 1, FailedOpen: 2, MeanMs: 20, WithinMs: 500},
	}}, seen)
	require.Equal(t, []string{results.StateFailedOpen, results.StateFailedClosed, results.StateRejected},
		[]string{(*told)[0].Fields[results.FieldState], (*told)[1].Fields[results.FieldState], (*told)[2].Fields[results.FieldState]})
	require.Equal(t, results.Event{Kind: results.Webhook, Name: "linkerd-proxy-injector.linkerd.io",
		Detail: "could not be called, and what it was asked about was let in, 2 times",
		Fields: map[string]string{"state": "failed-open", "count": "2", "type": "admit"}}, (*told)[0])

	seen, err = w.Cut(t.Context(), "soak")
	require.NoError(t, err)
	require.Equal(t, results.Webhooks{Phase: "soak", From: 3, To: 4, Whole: &whole, Calls: []results.WebhookCalls{}}, seen)
}

func TestCountersOfAnotherAPIServerAreNotCompared(t *testing.T) {
	a := &apiServer{started: 1, calls: 100}
	w, told := newWatch(a)
	require.NoError(t, w.look(t.Context()))
	a.started, a.calls = 2, 5
	require.NoError(t, w.look(t.Context()))
	a.calls = 8
	seen, err := w.Cut(t.Context(), "soak")
	require.NoError(t, err)
	require.False(t, *seen.Whole)
	require.Equal(t, int64(3), seen.Calls[0].Calls)
	require.Empty(t, *told)
	a.calls = 9
	seen, err = w.Cut(t.Context(), "after")
	require.NoError(t, err)
	require.True(t, *seen.Whole)
}

func TestAnAPIServerThatDoesNotSayIsAnError(t *testing.T) {
	a := &apiServer{err: errors.New("forbidden")}
	w, _ := newWatch(a)
	_, err := w.Cut(t.Context(), "soak")
	require.ErrorContains(t, err, "ask the API server for its metrics: forbidden")
	_, err = readAdmissions(strings.NewReader("# TYPE apiserver_admission_webhook_fail_open_count counter\napiserver_admission_webhook_fail_open_count{\n"))
	require.ErrorContains(t, err, "read the API server's metrics")
	_, err = readAdmissions(strings.NewReader(""))
	require.ErrorContains(t, err, "do not say when it started")
	a.err = nil
	_, err = w.Cut(t.Context(), "soak")
	require.ErrorContains(t, err, "for the first time")
}

func TestTheWebhookWatchEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a := &apiServer{started: 1}
	w, _ := newWatch(a)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.Run(ctx)
	require.Equal(t, 1, a.asked)
}

func FuzzReadAdmissions(f *testing.F) {
	body, err := (&apiServer{started: 1, calls: 3, open: 1}).metrics(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("process_start_time_seconds 1\napiserver_admission_webhook_rejection_count{a=\"")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := readAdmissions(strings.NewReader(text)); err == nil && a == nil {
			t.Error("nothing and no error")
		}
	})
}

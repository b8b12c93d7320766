package probes

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// turns is a Prometheus that gives one answer after another, and the last for ever.
type turns struct {
	mu      sync.Mutex
	answers []string
	query   string
}

func (p *turns) ServiceGet(_ context.Context, _, _, _ string, query url.Values) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.query = query.Get("query")
	next := p.answers[0]
	if len(p.answers) > 1 {
		p.answers = p.answers[1:]
	}
	return []byte(next), nil
}

// vector is an answer with a value for each deployment, of an instant.
func vector(at float64, words ...any) string {
	var samples []string
	for i := 0; i < len(words); i += 2 {
		samples = append(samples, fmt.Sprintf(`{"metric":{"deployment":%q},"value":[%.3f,"%v"]}`, words[i], at, words[i+1]))
	}
	return answer(samples)
}

// denials is an answer with a value for each denial. One without an identity has
// no such label.
func denials(words ...any) string {
	var samples []string
	for i := 0; i < len(words); i += 2 {
		of, client := words[i].(Denial), ""
		if of.Client != "" {
			client = fmt.Sprintf(`,"client_id":%q`, of.Client)
		}
		samples = append(samples, fmt.Sprintf(`{"metric":{"deployment":%q%s},"value":[1,"%v"]}`, of.Callee, client, words[i+1]))
	}
	return answer(samples)
}

func answer(samples []string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

func TestDenialsAreCountedFromWhereTheyStood(t *testing.T) {
	const me, other = "x.prod-app.id", "y.prod-app.id"
	of := func(callee, client string) Denial { return Denial{callee, client} }
	prom := &turns{answers: []string{
		denials(of("a", me), 5, of("b", ""), 1), denials(of("a", me), 6, of("a", other), 7, of("b", ""), 1), denials(of("a", me), 8, of("a", other), 7, of("b", ""), 1, of("c", me), 2),
	}}
	before, err := Denials(t.Context(), prom)
	require.NoError(t, err)
	require.Equal(t, `sum by (deployment, client_id) ({__name__=~"inbound_http_authz_deny_total|inbound_tcp_authz_deny_total",namespace="prod-app",target_port="9090"})`, prom.query)
	grown, err := DenialsSince(t.Context(), prom, before, map[Denial]int{of("a", me): 3, of("c", me): 2}, time.Minute, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, map[Denial]int{of("a", me): 3, of("a", other): 7, of("b", ""): 0, of("c", me): 2}, grown, "Prometheus lags behind; a counter that was not there began at 0; another's denials are its own")
	grown, err = DenialsSince(t.Context(), prom, before, map[Denial]int{of("b", ""): 1}, 0, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, 0, grown[of("b", "")], "it never grew")
}

func TestAnAlertIsTimedByPrometheusClockFromWhenItIsSeen(t *testing.T) {
	w := NewAlertWatch(&turns{answers: []string{vector(0), vector(1709294400.25, "a", 1), vector(1709294402.5, "a", 1, "b", 1)}})
	require.NoError(t, w.AwaitQuiet(t.Context(), time.Hour, time.Millisecond))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Watch(ctx, time.Millisecond)
	}()
	require.NoError(t, w.Await(t.Context(), []string{"a", "b"}, time.Hour, time.Millisecond))
	stop()
	<-done
	at := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	require.Equal(t, map[string]time.Time{"a": at.Add(250 * time.Millisecond), "b": at.Add(2500 * time.Millisecond)}, w.Fired())
}

func TestAnAlertThatWasThereBeforeSaysNothing(t *testing.T) {
	w := NewAlertWatch(&turns{answers: []string{vector(5, "a", 1)}})
	require.NoError(t, w.AwaitQuiet(t.Context(), 0, time.Millisecond))
	w.note(map[string]time.Time{"a": time.Unix(7, 0)})
	require.True(t, w.Fired()["a"].IsZero())
	require.NoError(t, w.Await(t.Context(), []string{"a"}, time.Hour, time.Millisecond))
	require.NoError(t, w.Await(t.Context(), []string{"never"}, 0, time.Millisecond), "but no longer than it may take")
	require.NotContains(t, w.Fired(), "never")
}

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

// vector is an answer with a value for each deployment.
func vector(words ...any) string {
	var samples []string
	for i := 0; i < len(words); i += 2 {
		samples = append(samples, fmt.Sprintf(`{"metric":{"deployment":%q},"value":[1,"%v"]}`, words[i], words[i+1]))
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

func TestDenialsAreCountedFromWhereTheyStood(t *testing.T) {
	prom := &turns{answers: []string{vector("a", 5, "b", 1), vector("a", 6, "b", 1), vector("a", 8, "b", 1, "c", 2)}}
	before, err := Denials(t.Context(), prom)
	require.NoError(t, err)
	require.Equal(t, `sum by (deployment) ({__name__=~"inbound_http_authz_deny_total|inbound_tcp_authz_deny_total",namespace="prod-app",target_port="9090"})`, prom.query)
	grown, err := DenialsSince(t.Context(), prom, before, map[string]int{"a": 3, "c": 2}, time.Minute, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 3, "b": 0, "c": 2}, grown, "Prometheus lags behind; a counter that was not there began at 0")
	grown, err = DenialsSince(t.Context(), prom, before, map[string]int{"b": 1}, 0, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, 0, grown["b"], "it never grew")
}

func TestAnAlertIsTimedFromWhenItIsSeen(t *testing.T) {
	at := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	w := NewAlertWatch(&turns{answers: []string{vector(), vector("a", 1), vector("a", 1, "b", 1)}}, func() time.Time { return at })
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
	require.Equal(t, map[string]time.Time{"a": at, "b": at}, w.Fired())
}

func TestAnAlertThatWasThereBeforeSaysNothing(t *testing.T) {
	w := NewAlertWatch(&turns{answers: []string{vector("a", 1)}}, time.Now)
	require.NoError(t, w.AwaitQuiet(t.Context(), 0, time.Millisecond))
	w.note([]string{"a"})
	require.True(t, w.Fired()["a"].IsZero())
	require.NoError(t, w.Await(t.Context(), []string{"a"}, time.Hour, time.Millisecond))
	require.NoError(t, w.Await(t.Context(), []string{"never"}, 0, time.Millisecond), "but no longer than it may take")
	require.NotContains(t, w.Fired(), "never")
}

package probes

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/results"
)

// APIServer gives the API server's own metrics, as Prometheus would scrape them.
type APIServer func(ctx context.Context) (io.ReadCloser, error)

// What the API server counts of webhooks.
const (
	webhookFamilies  = "apiserver_admission_webhook_"
	webhookDurations = webhookFamilies + "admission_duration_seconds"
	webhookRejected  = webhookFamilies + "rejection_count"
	webhookFailOpen  = webhookFamilies + "fail_open_count"
	processStart     = "process_start_time_seconds"
	longestMetric    = 1 << 20 // bytes of a line
	noError          = "no_error"
	lookPatience     = 10 * time.Second
)

var admissionMetrics = []string{webhookDurations, webhookRejected, webhookFailOpen, processStart}

// WebhookWatch asks the API server again and again how webhooks were called, and
// tells of calls that were refused or in vain when it sees them.
type WebhookWatch struct {
	metrics APIServer
	every   time.Duration
	now     func() int64 // ns since the run's start
	tell    func(results.Event)

	mu     sync.Mutex
	last   *admissions
	from   int64 // of what is added up
	broken bool  // between from and now another API server answered
	sum    map[hook]*hookCalls
}

// hook is one webhook; kind is admit or validating.
type hook struct{ name, kind string }

// hookCalls are counters of one webhook.
type hookCalls struct {
	calls, seconds                     float64
	rejected, failedClosed, failedOpen float64
	within                             map[float64]float64 // calls by the histogram's edge, cumulative
}

// admissions is one look at the counters.
type admissions struct {
	at      int64
	started float64 // when the API server's process did
	hooks   map[hook]*hookCalls
}

// NewWebhookWatch makes a watch that asks every so often.
func NewWebhookWatch(metrics APIServer, every time.Duration, now func() int64, tell func(results.Event)) *WebhookWatch {
	return &WebhookWatch{metrics: metrics, every: every, now: now, tell: tell, sum: map[hook]*hookCalls{}}
}

// Run asks until ctx ends. A look that fails is made again: the counters go on.
func (w *WebhookWatch) Run(ctx context.Context) {
	for {
		_ = w.look(ctx)
		if pause.For(ctx, w.every) != nil {
			return
		}
	}
}

// Cut looks once more and returns what was counted since the last Cut, or since
// the first look.
func (w *WebhookWatch) Cut(ctx context.Context, phase string) (results.Webhooks, error) {
	if err := w.look(ctx); err != nil {
		return results.Webhooks{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	whole := !w.broken
	seen := results.Webhooks{Phase: phase, From: w.from, To: w.last.at, Whole: &whole, Calls: []results.WebhookCalls{}}
	for h, c := range w.sum {
		seen.Calls = append(seen.Calls, c.record(h))
	}
	slices.SortFunc(seen.Calls, func(a, b results.WebhookCalls) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	w.from, w.broken, w.sum = w.last.at, false, map[hook]*hookCalls{}
	if seen.To <= seen.From {
		return results.Webhooks{}, errors.New("the API server was asked for the first time just now")
	}
	return seen, nil
}

func (c *hookCalls) record(h hook) results.WebhookCalls {
	r := results.WebhookCalls{
		Name: h.name, Type: h.kind, Calls: round(c.calls), Rejected: round(c.rejected),
		FailedClosed: round(c.failedClosed), FailedOpen: round(c.failedOpen),
	}
	if c.calls > 0 {
		r.MeanMs = math.Round(c.seconds/c.calls*1e6) / 1e3
	}
	for edge, n := range c.within {
		if n >= c.calls && !math.IsInf(edge, 1) && (r.WithinMs == 0 || edge*1e3 < r.WithinMs) {
			r.WithinMs = edge * 1e3
		}
	}
	return r
}

func round(v float64) int64 { return int64(math.Round(v)) }

// look reads the counters and adds up what has come since the last look.
func (w *WebhookWatch) look(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.now()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	body, err := w.metrics(ctx)
	if err != nil {
		return fmt.Errorf("ask the API server for its metrics: %w", err)
	}
	defer body.Close()
	seen, err := readAdmissions(body)
	if err != nil {
		return err
	}
	seen.at = at
	before := w.last
	w.last = seen
	switch {
	case before == nil:
		w.from = at
	case before.started != seen.started:
		w.broken = true // its counters are others
	default:
		w.add(before, seen)
	}
	return nil
}

func (w *WebhookWatch) add(before, now *admissions) {
	for h, c := range now.hooks {
		grown := c.since(before.hooks[h])
		if grown.calls <= 0 && grown.failedOpen <= 0 && grown.rejected <= 0 && grown.failedClosed <= 0 {
			continue
		}
		sum := w.sum[h]
		if sum == nil {
			sum = &hookCalls{within: map[float64]float64{}}
			w.sum[h] = sum
		}
		sum.plus(grown)
		for _, told := range []struct {
			n            float64
			state, words string
		}{
			{grown.failedOpen, results.StateFailedOpen, "could not be called, and what it was asked about was let in"},
			{grown.failedClosed, results.StateFailedClosed, "could not be called, and what it was asked about was refused"},
			{grown.rejected, results.StateRejected, "refused what it was asked about"},
		} {
			if n := round(told.n); n > 0 {
				w.tell(results.Event{Kind: results.Webhook, Name: h.name, Detail: fmt.Sprintf("%s, %d times", told.words, n), Fields: map[string]string{
					results.FieldState: told.state, "count": strconv.FormatInt(n, 10), "type": h.kind,
				}})
			}
		}
	}
}

// since is how much has come since an earlier look, nil for none.
func (c *hookCalls) since(before *hookCalls) *hookCalls {
	if before == nil {
		before = &hookCalls{}
	}
	grown := &hookCalls{
		calls: c.calls - before.calls, seconds: c.seconds - before.seconds, rejected: c.rejected - before.rejected,
		failedClosed: c.failedClosed - before.failedClosed, failedOpen: c.failedOpen - before.failedOpen, within: map[float64]float64{},
	}
	for edge, n := range c.within {
		grown.within[edge] = n - before.within[edge]
	}
	return grown
}

func (c *hookCalls) plus(more *hookCalls) {
	c.calls += more.calls
	c.seconds += more.seconds
	c.rejected += more.rejected
	c.failedClosed += more.failedClosed
	c.failedOpen += more.failedOpen
	for edge, n := range more.within {
		c.within[edge] += n
	}
}

// readAdmissions reads of an API server's metrics, which are megabytes, what is
// about webhooks.
func readAdmissions(body io.Reader) (*admissions, error) {
	var of bytes.Buffer
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), longestMetric)
	for lines.Scan() {
		line := lines.Bytes()
		name := bytes.TrimPrefix(line, []byte("# TYPE "))
		if slices.ContainsFunc(admissionMetrics, func(prefix string) bool { return bytes.HasPrefix(name, []byte(prefix)) }) {
			of.Write(line)
			of.WriteByte('\n')
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&of)
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	started := families[processStart].GetMetric()
	if len(started) == 0 {
		return nil, errors.New("read the API server's metrics: they do not say when it started")
	}
	a := &admissions{started: value(started[0]), hooks: map[hook]*hookCalls{}}
	for _, m := range families[webhookDurations].GetMetric() {
		c, h := a.of(m), m.GetHistogram()
		c.calls += float64(h.GetSampleCount())
		c.seconds += h.GetSampleSum()
		for _, b := range h.GetBucket() {
			c.within[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
	for _, m := range families[webhookRejected].GetMetric() {
		if label(m, "error_type") == noError {
			a.of(m).rejected += value(m)
		} else {
			a.of(m).failedClosed += value(m)
		}
	}
	for _, m := range families[webhookFailOpen].GetMetric() {
		a.of(m).failedOpen += value(m)
	}
	return a, nil
}

// of finds the webhook that a metric is about.
func (a *admissions) of(m *dto.Metric) *hookCalls {
	h := hook{label(m, "name"), label(m, "type")}
	if a.hooks[h] == nil {
		a.hooks[h] = &hookCalls{within: map[float64]float64{}}
	}
	return a.hooks[h]
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// value is a counter's or a gauge's, whatever its type says.
func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
}

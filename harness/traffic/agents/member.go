package agents

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// member is one agent as it is known here.
type member struct {
	group  *group
	index  int
	pod    string
	node   string
	zone   string
	client *http.Client

	begin, end *results.ClockOffset
	following  sync.WaitGroup // the stream of its results
	unfollow   context.CancelFunc
	// until is where what the agent knows of the schedule ends, from its zero: a
	// change that it has not confirmed. Nothing that it sends beyond counts.
	until atomic.Int64

	mu      sync.Mutex
	started bool
	got     int64 // results
	summary *wire.Summary
	own     *hdrhistogram.Histogram // of its summary
	lost    string                  // why its results ended early
}

func newMember(g *group, index int) *member { return &member{group: g, index: index} }

// name is as requests have it.
func (m *member) name() string { return fmt.Sprintf("%s/%d", m.group.Name, m.index) }

// reach sets out how the agent is spoken to: over connections that are
// forwarded to its pod.
func (m *member) reach(dial func(ctx context.Context, pod string) (net.Conn, error), pod string) {
	m.pod = pod
	m.client = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, pod) },
		MaxIdleConnsPerHost: 4,
		DisableCompression:  true,
	}}
}

func (m *member) close() {
	if m.client != nil {
		m.client.CloseIdleConnections()
	}
}

// lose notes why an agent's results end here; the first reason counts.
func (m *member) lose(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost == "" && m.summary == nil {
		m.lost = fmt.Sprintf(format, args...)
	}
}

// live tells whether the agent is there and may send.
func (m *member) live() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost == "" && m.summary == nil && m.client != nil
}

func (m *member) why() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// refusal is an answer that is not a success.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("the agent answers %d: %s", r.code, r.text) }

// ask sends a question to the agent and decodes its answer, where one is wanted.
func (m *member) ask(ctx context.Context, method, path string, question, answer any) error {
	var body io.Reader
	if question != nil {
		raw, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	res, err := m.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // to the end, so that the connection can be kept
	if err != nil {
		return err
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

func (m *member) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+m.pod+path, body)
	if err != nil {
		return nil, err
	}
	res, err := m.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	res.Body.Close()
	return nil, &refusal{res.StatusCode, strings.TrimSpace(string(said))}
}

func (m *member) clock(ctx context.Context) (c wire.Clock, err error) {
	err = m.ask(ctx, http.MethodGet, wire.ClockPath, nil, &c)
	return c, err
}

// insist asks again until it gets an answer, the agent is lost, or ctx ends. The questions that are
// asked so can be asked twice.
func (m *member) insist(ctx context.Context, method, path string, question any) error {
	for {
		err := m.ask(ctx, method, path, question, nil)
		if _, refused := errors.AsType[*refusal](err); err == nil || refused || !m.live() {
			return err
		}
		if ended := pause.For(ctx, 50*time.Millisecond); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// takenEvery is how many bytes are read before the agent is told that it may
// forget them.
const takenEvery = 8 << 20

// follow takes an agent's results until their end, over as many connections as
// that needs. An agent that cannot be reached for long, has died, or whose
// stream is damaged is lost.
func (f *Fleet) follow(ctx context.Context, m *member) {
	in := &wire.Reader{}
	heard := time.Now()
	for {
		before := in.Offset()
		err := f.read(ctx, m, in)
		if in.Offset() > before {
			heard = time.Now()
		}
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, errUnusable):
			m.lose("%v", err)
			return
		}
		f.Log.Debug("the stream of an agent broke", "agent", m.name(), "offset", in.Offset(), "error", err)
		if why := f.podTrouble(ctx, m); why != "" {
			m.lose("%s", why)
			return
		}
		if silent := time.Since(heard); silent > f.Patience {
			m.lose("not reached for %s: %v", silent.Round(time.Second), err)
			return
		}
		if pause.For(ctx, f.Poll) != nil {
			return
		}
	}
}

// errUnusable is when reading on is of no use.
var errUnusable = errors.New("its results cannot be used")

// read reads one connection's worth of frames; nil at the end of the stream.
func (f *Fleet) read(ctx context.Context, m *member, in *wire.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// frames come every second, if only to say that there is nothing
	silence := time.AfterFunc(f.Silence, func() { cancel(fmt.Errorf("nothing came for %s", f.Silence)) })
	defer silence.Stop()
	res, err := m.send(ctx, http.MethodGet, wire.RecordsPath+"?offset="+strconv.FormatInt(in.Offset(), 10), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	taken := in.Offset()
	for {
		frame, err := in.Next(res.Body)
		if errors.Is(err, wire.ErrFrame) {
			return fmt.Errorf("%w: %w", errUnusable, err)
		}
		if err != nil {
			return err
		}
		silence.Reset(f.Silence)
		switch frame.Kind {
		case wire.Record:
			err = f.take(m, frame.Payload)
		case wire.End:
			return f.finish(m, frame.Payload)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errUnusable, err)
		}
		if in.Offset()-taken > takenEvery {
			taken = in.Offset()
			if err := m.ask(ctx, http.MethodPost, wire.TakenPath+"?offset="+strconv.FormatInt(taken, 10), nil, nil); err != nil {
				f.Log.Debug("an agent keeps results that it need not", "agent", m.name(), "error", err)
			}
		}
	}
}

// take passes on one result. Its times run from the schedule's zero, which the
// agent has put where it is here by its clock's offset; so all that is left is
// the zero's distance from the run's start, and a latency stays what the
// agent's own clock measured.
func (f *Fleet) take(m *member, payload []byte) error {
	var r results.Request
	if err := json.Unmarshal(payload, &r); err != nil {
		return fmt.Errorf("read a result: %w", err)
	}
	if r.Scheduled < m.group.joined() || r.Scheduled >= m.until.Load() {
		return fmt.Errorf("%w: it was due before the group began, or after a change that the agent has not confirmed", errNotItsOwn)
	}
	if err := m.group.enter(m.index, r); err != nil {
		return err
	}
	m.mu.Lock()
	m.got++
	m.mu.Unlock()
	shift := int64(f.Began.Sub(f.Begin))
	r.Agent = m.name()
	r.Scheduled += shift
	if r.Outcome != results.Undispatched {
		r.Sent += shift
		r.Done += shift
	}
	f.Sink(r)
	return nil
}

// finish closes an agent's account with what it has counted itself.
func (f *Fleet) finish(m *member, payload []byte) error {
	var s wire.Summary
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("%w: read its summary: %w", errUnusable, err)
	}
	m.mu.Lock()
	got := m.got
	m.mu.Unlock()
	if s.Scheduled != got {
		return fmt.Errorf("%w: it has scheduled %d requests and given results of %d", errUnusable, s.Scheduled, got)
	}
	h, err := decodeLatencies(s)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnusable, err)
	}
	if s.Error != "" {
		f.Warn("agent "+m.name(), "its sender says: "+s.Error)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.summary, m.own = &s, h
	return nil
}

func decodeLatencies(s wire.Summary) (*hdrhistogram.Histogram, error) {
	if s.Latencies == "" {
		return traffic.NewHistogram(), nil
	}
	h, err := wire.DecodeHistogram(s.Latencies)
	if err != nil {
		return nil, err
	}
	if h.TotalCount() != s.Requests {
		return nil, fmt.Errorf("its histogram holds %d requests of %d", h.TotalCount(), s.Requests)
	}
	return h, nil
}

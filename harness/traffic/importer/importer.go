// Package importer turns access logs into a recording of which route was called
// when. It reads any number of logs at once, merged by time, in memory that
// does not grow with them; lines that it cannot use are counted by reason and
// shown without what they hold.
//
// Nothing personal goes further than a line's parser: a recording holds times,
// names of the shop's routes and classes of answers. What is reported of paths
// that no rule knows has every segment that is not a common word either hashed
// with a salt of this one import, which is kept nowhere, or left out.
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
)

// DefaultWindow is how far a log's lines may be out of order: a load balancer
// writes a request down when it is answered, and its time is when it came.
const DefaultWindow = time.Minute

// Options say what to import. Rules and Sink are needed.
type Options struct {
	Logs   []string // files, patterns of them, or - for Stdin
	Stdin  io.Reader
	Format string // of accesslog; "" for each line by its looks
	Rules  *scenarios.Rules
	Window time.Duration // 0 for DefaultWindow
	// From and To, where they are not zero, are when the first request may come
	// and when none may come any more.
	From, To time.Time
	// Sink takes the requests, ordered by time in microseconds since 1970.
	Sink interface {
		Add(at int64, route string, class uint8) error
	}
	// Progress, when it is not nil, hears now and then how many lines are read.
	Progress func(lines int64)
}

// Import reads all logs. It fails where a file cannot be opened or the sink
// does; what is wrong with lines, or with a file's end, stands in the report.
func Import(ctx context.Context, o Options) (*Report, error) {
	logs, err := expand(o.Logs)
	if err != nil {
		return nil, err
	}
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	m := &merge{
		ctx: ctx, progress: o.Progress, window: max(o.Window, time.Second).Microseconds(),
		from: -1 << 62, to: 1 << 62, tally: newTally(o.Rules), rules: o.Rules, format: o.Format,
	}
	if !o.From.IsZero() {
		m.from = o.From.UnixMicro()
	}
	if !o.To.IsZero() {
		m.to = o.To.UnixMicro()
	}
	defer m.close()
	for _, name := range logs {
		if err := m.await(name, o.Stdin); err != nil {
			return nil, err
		}
	}
	for {
		e, ok, err := m.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return m.tally.report(m.sources), nil
		}
		route := m.tally.emit(e)
		if err := o.Sink.Add(e.at, route, e.class()); err != nil {
			return nil, fmt.Errorf("write the recording: %w", err)
		}
	}
}

// expand finds the files that patterns stand for, each once, in order.
func expand(logs []string) ([]string, error) {
	var all []string
	for _, log := range logs {
		found := []string{log}
		if _, err := os.Stat(log); err != nil && strings.ContainsAny(log, "*?[") {
			if found, err = filepath.Glob(log); err != nil {
				return nil, fault.NewInvalid(fmt.Errorf("pattern %s: %w", log, err), "")
			}
			if len(found) == 0 {
				return nil, fault.NewInvalid(fmt.Errorf("no file fits %s", log), "")
			}
		}
		for _, name := range found {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	if len(all) == 0 {
		return nil, fault.NewInvalid(errors.New("there is no log to import"), "name files, or - for what comes in")
	}
	return all, nil
}

// merge brings the sources' requests into one order. A log is opened only when
// its turn comes, so that a year of small files takes no more than those of
// one moment.
type merge struct {
	ctx      context.Context
	progress func(int64)
	window   int64 // microseconds
	from, to int64 // microseconds since 1970
	rules    *scenarios.Rules
	format   string
	tally    *tally
	sources  []*source     // all of them, as they were named
	waiting  []*source     // not opened yet, ordered by start
	open     heap[*source] // by the time of their next request
	begun    bool
	first    int64 // of what was handed out
	last     int64
}

// mostOpen is how many logs may cover the same time.
const mostOpen = 200

// await enters a log.
func (m *merge) await(name string, stdin io.Reader) error {
	s := &source{merge: m, name: name, number: len(m.sources), formats: map[string]int64{}}
	begin, err := s.begins(stdin)
	if err != nil {
		return err
	}
	s.start = begin - m.window
	m.sources = append(m.sources, s)
	at, _ := slices.BinarySearchFunc(m.waiting, s, func(a, b *source) int {
		if a.start <= b.start {
			return -1
		}
		return 1
	})
	m.waiting = slices.Insert(m.waiting, at, s)
	return nil
}

// next returns the next request of all logs.
func (m *merge) next() (entry, bool, error) {
	for {
		if err := m.openWaiting(); err != nil {
			return entry{}, false, err
		}
		if m.open.empty() {
			return entry{}, false, nil
		}
		s := m.open.top()
		e := s.head
		more, err := s.advance()
		switch {
		case err != nil:
			return entry{}, false, err
		case more:
			m.open.fix(sooner)
		default:
			m.open.pop(sooner)
		}
		switch {
		case m.begun && e.at < m.last: // of a log that began earlier than it looked
			s.used--
			m.tally.disorder(s)
			continue
		case m.begun && e.at-m.first > recording.Longest.Microseconds():
			s.used--
			m.tally.beyond.count++
			continue
		case !m.begun:
			m.begun, m.first = true, e.at
		}
		m.last = e.at
		return e, true, nil
	}
}

// openWaiting opens the logs whose time has come.
func (m *merge) openWaiting() error {
	for len(m.waiting) > 0 && (m.open.empty() || m.waiting[0].start <= m.open.top().head.at) {
		s := m.waiting[0]
		m.waiting = m.waiting[1:]
		if m.open.size() >= mostOpen {
			return fault.NewInvalid(fmt.Errorf("more than %d logs cover the same time", mostOpen), "put some of them together, in the order of their times")
		}
		if err := s.open(); err != nil {
			return err
		}
		more, err := s.advance()
		if err != nil {
			return err
		}
		if more {
			m.open.push(s, sooner)
		}
	}
	return nil
}

func sooner(a, b *source) bool {
	if a.head.at != b.head.at {
		return a.head.at < b.head.at
	}
	return a.number < b.number
}

// room is how many requests each open log may hold back to put them in order.
func (m *merge) room() int { return max(1024, heldBack/max(1, m.open.size())) }

// heldBack is how many requests may wait in all, at 16 bytes each.
const heldBack = 1 << 17

func (m *merge) close() {
	for _, s := range m.sources {
		s.close()
	}
}

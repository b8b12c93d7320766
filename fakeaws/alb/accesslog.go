package alb

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
)

// entry is one line of the access log. It holds no body, no header but the
// trace, and no query, which may hold what a customer typed.
type entry struct {
	Time         time.Time `json:"time"`
	Listener     Listener  `json:"listener"`
	Client       string    `json:"client"`
	Method       string    `json:"method"`
	Host         string    `json:"host"`
	Path         string    `json:"path"`
	Protocol     string    `json:"protocol"`
	Status       int       `json:"status"`
	TargetStatus int       `json:"targetStatus,omitempty"`
	Group        string    `json:"group,omitempty"`
	Target       string    `json:"target,omitempty"`
	Node         string    `json:"node,omitempty"`
	Sent         int64     `json:"sent"` // bytes of body
	TookMs       float64   `json:"tookMs"`
	Trace        string    `json:"trace"`
	Error        string    `json:"error,omitempty"`

	began time.Time // with the monotonic clock
}

// accessLog writes entries as JSON lines; safe for concurrent use. Lines are
// kept for up to a second: one at a time each would wake the container engine
// in the middle of a request.
type accessLog struct {
	sink io.Writer
	mu   sync.Mutex
	kept *bufio.Writer // towards sink
}

const (
	accessBuffer = 64 << 10
	accessFlush  = time.Second
)

func newAccessLog(out io.Writer) *accessLog {
	return &accessLog{sink: out, kept: bufio.NewWriterSize(out, accessBuffer)}
}

// flushUntil writes out what is kept, every second until ctx ends.
func (l *accessLog) flushUntil(ctx context.Context) {
	tick := time.NewTicker(accessFlush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.flush()
		}
	}
}

func (l *accessLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.check(l.kept.Flush())
}

// check forgets lines that the sink did not take, so that later ones get there.
func (l *accessLog) check(err error) {
	if err != nil {
		l.kept.Reset(l.sink)
	}
}

func (l *accessLog) begin(listener Listener, r *http.Request, trace string) *entry {
	now := time.Now()
	return &entry{
		Time: now.UTC(), Listener: listener, Client: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Path: r.URL.Path, Protocol: r.Proto, Trace: trace, began: now,
	}
}

func (e *entry) done(w *countingWriter) {
	if e.Status == 0 {
		e.Status = w.status
	}
	e.Sent = w.written
	e.TookMs = float64(time.Since(e.began).Microseconds()) / 1000
}

func (l *accessLog) write(e *entry) {
	line, err := json.Marshal(e)
	if err != nil {
		return // an entry is plain data and always encodes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.kept.Write(append(line, '\n'))
	l.check(err) // a lost line must not lose the request
}

// countingWriter remembers the status and the size of an answer.
type countingWriter struct {
	http.ResponseWriter
	status  int
	written int64
}

func (w *countingWriter) WriteHeader(status int) {
	if status >= 200 { // 1xx are not the answer yet
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach Flush.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package alb

import (
	"bufio"
	"context"
	"io"
	"sync"
	"time"
)

// accessLog writes entries in the format of AWS's access logs; safe for
// concurrent use. Lines are kept for up to a second: one at a time each would
// wake the container engine in the middle of a request.
type accessLog struct {
	sink     io.Writer
	balancer string // its resource ID
	mu       sync.Mutex
	kept     *bufio.Writer // towards sink
	line     []byte        // what the last one was written in
}

const (
	accessBuffer = 64 << 10
	accessFlush  = time.Second
)

func newAccessLog(out io.Writer, balancer string) *accessLog {
	return &accessLog{sink: out, balancer: balancer, kept: bufio.NewWriterSize(out, accessBuffer)}
}

// flushEvery writes out what is kept, again and again until ctx ends, and does
// what else is due then.
func (l *accessLog) flushEvery(ctx context.Context, every time.Duration, also func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.flush()
			also()
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

func (l *accessLog) write(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = e.line(l.line[:0], l.balancer)
	_, err := l.kept.Write(l.line)
	l.check(err) // a lost line must not lose the request
}

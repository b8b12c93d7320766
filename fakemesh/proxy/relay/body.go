package relay

import (
	"errors"
	"io"
	"sync"
)

// replayLimit is how much of a request's body is kept to send it once more.
const replayLimit = 64 << 10

// firstKept is how much of it costs no memory of its own: most requests are small.
const firstKept = 512

var errAttemptOver = errors.New("this attempt to send the request is over")

// replayBody reads a body once and gives it to one attempt after another, as
// long as no more than replayLimit of it has been read.
type replayBody struct {
	src io.ReadCloser

	mu      sync.Mutex
	cond    sync.Cond
	kept    []byte
	few     [firstKept]byte // where kept begins
	lost    bool            // more was read than is kept
	reading bool
	err     error // how the source ended
	attempt int
}

func newReplayBody(src io.ReadCloser) *replayBody {
	b := &replayBody{src: src}
	b.cond.L = &b.mu
	b.kept = b.few[:0]
	return b
}

// next begins an attempt, whose reader is to; the reader of the one before gives
// up. It is false when the body cannot be had from its beginning any more.
func (b *replayBody) next(to *attemptBody) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt++
	b.cond.Broadcast()
	*to = attemptBody{b: b, attempt: b.attempt}
	return !b.lost
}

// started says whether any of the body was taken from the source.
func (b *replayBody) started() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost || len(b.kept) > 0 || b.err != nil || b.reading
}

// forget gives the memory free once no other attempt will follow.
func (b *replayBody) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

type attemptBody struct {
	b       *replayBody
	attempt int
	offset  int
}

// Read implements io.Reader. Only one attempt reads from the source at a time;
// what an attempt that is over had begun to read goes to its successor.
func (a *attemptBody) Read(p []byte) (int, error) {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case a.attempt != b.attempt:
			return 0, errAttemptOver
		case a.offset < len(b.kept):
			n := copy(p, b.kept[a.offset:])
			a.offset += n
			return n, nil
		case b.err != nil:
			return 0, b.err
		case !b.reading:
			return a.readSource(p)
		}
		b.cond.Wait()
	}
}

func (a *attemptBody) readSource(p []byte) (int, error) {
	b := a.b
	if len(p) == 0 {
		return 0, nil
	}
	b.reading = true
	b.mu.Unlock()
	n, err := b.src.Read(p)
	b.mu.Lock()
	b.reading = false
	b.cond.Broadcast()
	if err != nil {
		b.err = err
	}
	if b.lost || len(b.kept)+n > replayLimit {
		b.lost, b.kept = true, nil
		a.offset = 0
	} else {
		b.kept = append(b.kept, p[:n]...)
		a.offset += n
	}
	if a.attempt != b.attempt {
		return 0, errAttemptOver
	}
	if n > 0 {
		return n, nil
	}
	return n, err
}

// Close implements io.Closer. The source is closed by whoever serves the request.
func (a *attemptBody) Close() error { return nil }

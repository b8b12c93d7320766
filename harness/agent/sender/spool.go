package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
)

const (
	spoolBuffer = 64 << 10
	flushEvery  = 100 * time.Millisecond // how much of the results a killed agent takes with it
	beatEvery   = time.Second
)

// spool keeps the stream of results on disk until the harness has taken it, so
// that a connection can break and memory stays what it is.
type spool struct {
	file *os.File

	mu    sync.Mutex
	buf   []byte // not in the file yet
	size  int64  // of the file
	seq   uint64
	last  time.Time // a frame was added
	ended bool
	err   error         // the first
	grew  chan struct{} // closed when the file has more
}

// openSpool makes the file anew.
func openSpool(path string) (*spool, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make room for results: %w", err)
	}
	return &spool{file: file, last: time.Now(), grew: make(chan struct{})}, nil
}

// add appends a frame. Nothing can be added after the end.
func (s *spool) add(kind byte, v any) error {
	var payload []byte
	if v != nil {
		var err error
		if payload, err = json.Marshal(v); err != nil {
			return fmt.Errorf("encode a result: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended {
		return s.err
	}
	s.buf, s.err = wire.AppendFrame(s.buf, wire.Frame{Seq: s.seq, Kind: kind, Payload: payload})
	s.seq++
	s.last = time.Now()
	s.ended = kind == wire.End
	if len(s.buf) >= spoolBuffer || s.ended {
		s.write()
	}
	return s.err
}

// write brings the buffer to the file; mu is held.
func (s *spool) write() {
	if s.err == nil && len(s.buf) > 0 {
		_, err := s.file.WriteAt(s.buf, s.size)
		if err != nil {
			s.err = fmt.Errorf("keep results: %w", err)
		} else {
			s.size += int64(len(s.buf))
		}
		s.buf = s.buf[:0]
	}
	close(s.grew)
	s.grew = make(chan struct{})
}

// run flushes in a rhythm, and says that there is nothing new, until ctx ends.
func (s *spool) run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			quiet := now.Sub(s.last) >= beatEvery
			s.mu.Unlock()
			if quiet {
				_ = s.add(wire.Beat, nil) // a full disk is told of by whoever adds results
			}
			s.mu.Lock()
			s.write()
			s.mu.Unlock()
		}
	}
}

// state is what there is to read: up to size, more when grew is closed.
func (s *spool) state() (size int64, ended bool, grew <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.ended, s.grew, s.err
}

// copyTo writes the stream from offset on, until its end or ctx's.
func (s *spool) copyTo(ctx context.Context, w io.Writer, offset int64, flush func() error) error {
	for {
		size, ended, grew, err := s.state()
		if err != nil {
			return err
		}
		if offset > size {
			return fmt.Errorf("the stream has %d bytes, and is asked for from %d on", size, offset)
		}
		n, err := io.Copy(w, io.NewSectionReader(s.file, offset, size-offset))
		offset += n
		if err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		if ended {
			return nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forget gives the disk back what comes before offset. A file system that
// cannot do so keeps it.
func (s *spool) forget(offset int64) error {
	const block = 4 << 10
	size, _, _, _ := s.state()
	upTo := min(offset, size) / block * block
	if upTo <= 0 {
		return nil
	}
	err := unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, upTo)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("give room back: %w", err)
	}
	return nil
}

func (s *spool) close() error { return errors.Join(s.file.Close(), os.Remove(s.file.Name())) }

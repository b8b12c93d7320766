package results

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// lineWriter appends JSON lines to one file and flushes it in a rhythm, so
// that a killed run loses no more than one beat.
type lineWriter struct {
	path string
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	file  *os.File
	buf   *bufio.Writer
	json  *json.Encoder // into buf
	count int64
	err   error // the first; nothing is written after it
	shut  bool
}

func newLineWriter(path string, every time.Duration) (*lineWriter, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create record: %w", err)
	}
	buf := bufio.NewWriterSize(file, 64<<10)
	w := &lineWriter{
		path: path, file: file, buf: buf, json: json.NewEncoder(buf), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.flushEvery(every)
	return w, nil
}

func (w *lineWriter) flushEvery(every time.Duration) {
	defer close(w.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.mu.Lock()
			w.keep(w.buf.Flush())
			w.mu.Unlock()
		}
	}
}

// keep remembers the first error; w.mu is held.
func (w *lineWriter) keep(err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write %s: %w", w.path, err)
	}
}

func (w *lineWriter) add(v any) error {
	if w == nil {
		return ErrReadOnly
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.unfit(); err != nil {
		return err
	}
	if err := w.json.Encode(v); err != nil { // nothing of it is written when it cannot be encoded
		if _, err := json.Marshal(v); err != nil {
			return fmt.Errorf("encode a line of %s: %w", w.path, err)
		}
		w.keep(err)
		return w.err
	}
	w.count++
	return nil
}

// addRequest is add for a request.
func (w *lineWriter) addRequest(r *Request) error {
	if w == nil {
		return ErrReadOnly
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.unfit(); err != nil {
		return err
	}
	if _, err := w.buf.Write(appendRequest(w.buf.AvailableBuffer(), r)); err != nil {
		w.keep(err)
		return w.err
	}
	w.count++
	return nil
}

// unfit is why nothing can be added; w.mu is held.
func (w *lineWriter) unfit() error {
	if w.shut {
		return fmt.Errorf("write %s: %w", w.path, os.ErrClosed)
	}
	return w.err
}

// flush brings everything that was added to the file. A nil writer has nothing.
func (w *lineWriter) flush() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shut {
		w.keep(w.buf.Flush())
	}
	return w.err
}

func (w *lineWriter) lines() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func (w *lineWriter) close() error {
	w.mu.Lock()
	first := !w.shut
	if first {
		w.shut = true
		close(w.stop)
		w.keep(w.buf.Flush())
		w.keep(w.file.Close())
	}
	err := w.err
	w.mu.Unlock()
	<-w.done
	return err
}

// maxLine is far above any line that is written; a longer one is damage.
const maxLine = 8 << 20

// eachLine calls fn with every whole line of a JSON lines file. cut tells that
// the last line has no end: the run was cut off there. Such a line is handed
// to fn only when it is whole JSON. A file that is not there has no lines.
func eachLine(path string, fn func(line []byte) error) (count int64, cut bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read record: %w", err)
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 256<<10)
	var long []byte
	for number := int64(1); ; number++ {
		line, err := readLine(in, &long)
		if errors.Is(err, io.EOF) {
			if len(line) == 0 {
				return count, cut, nil
			}
			cut = true
			if !json.Valid(line) {
				return count, cut, nil
			}
		} else if err != nil {
			return count, cut, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		if err := fn(bytes.TrimSpace(line)); err != nil {
			return count, cut, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		count++
	}
}

var errLongLine = fmt.Errorf("the line is longer than %d MiB", maxLine>>20)

// readLine returns the next line without its end, and io.EOF with what is left
// when the file stops in the middle of a line. The line is valid until the
// next call.
func readLine(in *bufio.Reader, long *[]byte) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	*long = (*long)[:0]
	for errors.Is(err, bufio.ErrBufferFull) && len(*long) <= maxLine {
		*long = append(*long, line...)
		line, err = in.ReadSlice('\n')
	}
	*long = append(*long, line...)
	if len(*long) > maxLine {
		return nil, errLongLine
	}
	if err != nil {
		return *long, err
	}
	return (*long)[:len(*long)-1], nil
}

package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"meshsim.dev/meshsim/clusters/fault"
)

// Writer writes a recording.
type Writer struct {
	out   *bufio.Writer
	line  []byte
	count int64
	first int64 // microseconds since 1970
	last  int64
}

// NewWriter writes to w; End completes the recording.
func NewWriter(w io.Writer) *Writer { return &Writer{out: bufio.NewWriterSize(w, 64<<10)} }

// Add writes a request that came at so many microseconds since 1970, no earlier
// than the one before it.
func (w *Writer) Add(at int64, route string, class uint8) error {
	if w.count == 0 {
		w.first = at
		if err := w.json(header{APIVersion, Kind, time.UnixMicro(at).UTC().Truncate(time.Second)}); err != nil {
			return err
		}
	} else if at < w.last {
		return fmt.Errorf("a recording is in order of time: %d µs after %d µs", at, w.last)
	} else if at-w.first > Longest.Microseconds() {
		return fmt.Errorf("a recording spans no more than %s", Longest)
	}
	w.count++
	w.last = at
	w.line = append(w.line[:0], `{"us":`...)
	w.line = strconv.AppendInt(w.line, at-w.first, 10)
	w.line = append(w.line, `,"route":"`...)
	w.line = append(w.line, route...)
	if class != 0 {
		w.line = append(w.line, `","class":"`...)
		w.line = append(w.line, '0'+class%10, 'x', 'x')
	}
	w.line = append(w.line, "\"}\n"...)
	_, err := w.out.Write(w.line)
	return err
}

func (w *Writer) json(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.out.Write(append(line, '\n'))
	return err
}

// Requests is how many were added.
func (w *Writer) Requests() int64 { return w.count }

// Span is the time from the first request to the last.
func (w *Writer) Span() time.Duration { return time.Duration(w.last-w.first) * time.Microsecond }

// End writes the last line. A recording without a request is none.
func (w *Writer) End() error {
	if w.count == 0 {
		return errors.New("a recording needs at least one request")
	}
	return errors.Join(w.json(ending{w.count, w.last - w.first}), w.out.Flush())
}

// File is a recording being written to a file, which has its name only when it
// is complete.
type File struct {
	*Writer
	path string
	file *os.File
	gzip *gzip.Writer // nil where the name does not end in .gz
}

// Create begins a recording at path, gzipped where that ends in .gz. Commit or
// Abandon it.
func Create(path string) (*File, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fault.NewInvalid(fmt.Errorf("create recording: %w", err), "")
	}
	f := &File{path: path, file: file}
	var out io.Writer = file
	if strings.HasSuffix(path, ".gz") {
		f.gzip, err = gzip.NewWriterLevel(file, gzip.BestSpeed)
		if err != nil {
			return nil, errors.Join(err, f.Abandon())
		}
		out = f.gzip
	}
	f.Writer = NewWriter(out)
	return f, nil
}

// Commit completes the recording and gives it its name.
func (f *File) Commit() error {
	err := f.End()
	if f.gzip != nil {
		err = errors.Join(err, f.gzip.Close())
	}
	if err == nil {
		err = f.file.Chmod(0o644)
	}
	err = errors.Join(err, f.file.Close())
	if err == nil {
		err = os.Rename(f.file.Name(), f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write recording %s: %w", f.path, err), os.Remove(f.file.Name()))
	}
	return nil
}

// Abandon removes what was written.
func (f *File) Abandon() error {
	return errors.Join(f.file.Close(), os.Remove(f.file.Name()))
}

package accesslog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// MaxLine is how long a line may be; a load balancer's are shorter by far.
const MaxLine = 64 << 10

// Lines reads the lines of a log, gzipped or not, in memory of one size.
type Lines struct {
	in     *bufio.Reader
	number int64
}

// NewLines reads from in. What says that it is gzip and is not comes as an
// error of Next.
func NewLines(in io.Reader) *Lines {
	l := &Lines{in: bufio.NewReaderSize(in, MaxLine)}
	if magic, err := l.in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		l.in = bufio.NewReaderSize(&unpacked{packed: l.in}, MaxLine)
	}
	return l
}

// unpacked opens its gzip stream when it is first read.
type unpacked struct {
	packed io.Reader
	gzip   *gzip.Reader
	err    error
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.gzip == nil && u.err == nil {
		u.gzip, u.err = gzip.NewReader(u.packed)
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.gzip.Read(p)
}

// Number is the last line's, from 1.
func (l *Lines) Number() int64 { return l.number }

// Next returns the next line without its end, valid until the next call, and
// io.EOF after the last. Of a line that is too long it returns the beginning,
// with cut. Any other error is the end of what can be read.
func (l *Lines) Next() (line []byte, cut bool, err error) {
	line, err = l.in.ReadSlice('\n')
	switch {
	case err == nil:
		line = line[:len(line)-1]
	case errors.Is(err, bufio.ErrBufferFull):
		return l.skip(line)
	case len(line) == 0:
		if errors.Is(err, io.EOF) {
			return nil, false, io.EOF
		}
		return nil, false, fmt.Errorf("after line %d: %w", l.number, err)
	}
	l.number++
	return bytes.TrimSuffix(line, []byte{'\r'}), false, nil
}

// skip goes on to the end of a line of which there is more.
func (l *Lines) skip(line []byte) ([]byte, bool, error) {
	begin := bytes.Clone(line[:1<<10])
	for {
		_, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		l.number++ // an error that is none of this line's comes again
		return begin, true, nil
	}
}

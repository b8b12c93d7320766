package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"meshsim.dev/meshsim/clusters/fault"
)

// maxLine is far above any line that is written.
const maxLine = 4 << 10

// Reader reads a recording from its beginning.
type Reader struct {
	name   string
	in     *bufio.Reader
	file   *os.File // nil when it was not opened here
	gzip   *gzip.Reader
	line   int64
	from   time.Time
	count  int64
	last   time.Duration
	routes map[string]string // each name once
}

// Open opens a recording. What is wrong with it is a fault.Invalid that names
// the line.
func Open(path string) (*Reader, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NewInvalid(fmt.Errorf("recording %s is not there", path), "`meshsim traffic import LOG… -o FILE` makes one from access logs")
	}
	if err != nil {
		return nil, fault.NewInvalid(fmt.Errorf("open recording: %w", err), "")
	}
	r, err := NewReader(path, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.file = file
	return r, nil
}

// NewReader reads a recording, gzipped or not; name is its name in errors.
func NewReader(name string, in io.Reader) (*Reader, error) {
	r := &Reader{name: name, in: bufio.NewReaderSize(in, 64<<10), routes: map[string]string{}}
	if magic, err := r.in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		r.gzip, err = gzip.NewReader(r.in)
		if err != nil {
			return nil, r.wrong("not gzip: %v", err)
		}
		r.in = bufio.NewReaderSize(r.gzip, 64<<10)
	}
	line, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, r.wrong("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	var h header
	if strict(line, &h) != nil || h.Kind != Kind {
		return nil, r.wrong("not a recording: the first line should be of kind %s", Kind)
	}
	if h.APIVersion != APIVersion {
		return nil, r.wrong("apiVersion should be %s, not %.40q", APIVersion, h.APIVersion)
	}
	r.from = h.From
	return r, nil
}

// From is when the first request came; zero when the recording does not say.
func (r *Reader) From() time.Time { return r.from }

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func (r *Reader) wrong(format string, args ...any) error {
	return fault.NewInvalid(fmt.Errorf("%s:%d: %s", r.name, max(r.line, 1), fmt.Sprintf(format, args...)), "")
}

// next returns the next line without its end, valid until the next call.
func (r *Reader) next() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	r.line++
	switch {
	case errors.Is(err, io.EOF) && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, r.wrong("the recording was cut off here")
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxLine:
		return nil, r.wrong("the line is longer than %d bytes", maxLine)
	case err != nil:
		return nil, r.wrong("%v", err)
	}
	return line[:len(line)-1], nil
}

// Next returns the next request, and io.EOF after the last one of a recording
// that is whole.
func (r *Reader) Next() (Request, error) {
	line, err := r.next()
	if errors.Is(err, io.EOF) {
		return Request{}, r.wrong("the recording was cut off before its last line")
	}
	if err != nil {
		return Request{}, err
	}
	q, ok := r.quick(line)
	if !ok {
		var end bool
		q, end, err = r.slow(line)
		if err != nil {
			return Request{}, err
		}
		if end {
			return Request{}, io.EOF
		}
	}
	if q.At < r.last {
		return Request{}, r.wrong("the request is not in order of time: %s after %s", q.At, r.last)
	}
	if r.count == 0 && q.At != 0 {
		return Request{}, r.wrong("the first request should be at 0, not %s", q.At)
	}
	r.count++
	r.last = q.At
	return q, nil
}

// quick reads a line in the form that Writer gives it.
func (r *Reader) quick(line []byte) (q Request, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"us":`))
	if !ok {
		return q, false
	}
	var us int64
	digits := 0
	for ; digits < len(rest) && rest[digits]-'0' <= 9; digits++ {
		us = us*10 + int64(rest[digits]-'0')
	}
	if digits == 0 || digits > 15 || rest[0] == '0' && digits > 1 {
		return q, false
	}
	if us > Longest.Microseconds() {
		return q, false
	}
	q.At = time.Duration(us) * time.Microsecond
	if rest, ok = bytes.CutPrefix(rest[digits:], []byte(`,"route":"`)); !ok {
		return q, false
	}
	name, rest, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return q, false
	}
	if q.Route, ok = r.routes[string(name)]; !ok {
		return q, false
	}
	if string(rest) == "}" {
		return q, true
	}
	if len(rest) != len(`,"class":"2xx"}`) || string(rest[:10]) != `,"class":"` || string(rest[11:]) != `xx"}` || rest[10] < '1' || rest[10] > '5' {
		return q, false
	}
	q.Class = rest[10] - '0'
	return q, true
}

// slow reads a line in any form that JSON allows, the last line among them, and
// says what is wrong with it.
func (r *Reader) slow(line []byte) (q Request, end bool, err error) {
	var v struct {
		Us       *int64  `json:"us"`
		Route    *string `json:"route"`
		Class    string  `json:"class"`
		Requests *int64  `json:"requests"`
		SpanUs   *int64  `json:"spanUs"`
	}
	if err := strict(line, &v); err != nil {
		return q, false, r.wrong("not a recorded request: %v", err)
	}
	if v.Requests != nil && v.SpanUs != nil && v.Us == nil && v.Route == nil && v.Class == "" {
		return q, true, r.end(*v.Requests, *v.SpanUs)
	}
	switch {
	case v.Us == nil || v.Route == nil || v.Requests != nil || v.SpanUs != nil:
		return q, false, r.wrong("a recorded request has us, route and class")
	case *v.Us < 0 || *v.Us > Longest.Microseconds():
		return q, false, r.wrong("us should be from 0 to %d, not %d", Longest.Microseconds(), *v.Us)
	case !routeName.MatchString(*v.Route):
		return q, false, r.wrong("route %.70q should be lower-case letters, digits and dashes", *v.Route)
	}
	if v.Class != "" {
		if len(v.Class) != 3 || v.Class[0] < '1' || v.Class[0] > '5' || v.Class[1:] != "xx" {
			return q, false, r.wrong("class should be 1xx to 5xx, not %.40q", v.Class)
		}
		q.Class = v.Class[0] - '0'
	}
	if _, known := r.routes[*v.Route]; !known {
		if len(r.routes) == mostRoutes {
			return q, false, r.wrong("the recording names more than %d routes", mostRoutes)
		}
		r.routes[*v.Route] = *v.Route
	}
	q.At, q.Route = time.Duration(*v.Us)*time.Microsecond, r.routes[*v.Route]
	return q, false, nil
}

// end checks the last line against what came before it.
func (r *Reader) end(requests, spanUs int64) error {
	if requests != r.count || spanUs != r.last.Microseconds() {
		return r.wrong("the recording should hold %d requests in %d µs, and holds %d in %d µs: some were lost",
			requests, spanUs, r.count, r.last.Microseconds())
	}
	if r.count == 0 {
		return r.wrong("the recording holds no request")
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		return r.wrong("something follows the last line")
	}
	return nil
}

// strict reads one JSON value that has no unknown keys.
func strict(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value on a line")
	}
	return nil
}

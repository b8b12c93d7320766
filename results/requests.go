package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// blockSize is how much of requests.jsonl is decoded at a time.
const blockSize = 256 << 10

// block is a number of whole lines, decoded by one of several workers and
// handed on in the file's order.
type block[T any] struct {
	text  []byte
	first int64 // number of its first line
	cut   bool  // the last line has no end

	requests []Request
	prepared []T   // of each request
	err      error // of the line after the last request
	decoded  chan struct{}
}

// eachRequest is eachLine for requests: a long run has millions of them, so they
// are decoded, and prepared for fn, on all cores.
func eachRequest[T any](path string, prepare func(*Request) T, fn func(*Request, T) error) (Read, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Read{}, nil
	}
	if err != nil {
		return Read{}, fmt.Errorf("read record: %w", err)
	}
	defer file.Close()

	workers := min(runtime.GOMAXPROCS(0), 4)
	stop := make(chan struct{})
	todo, inOrder := make(chan *block[T]), make(chan *block[T], workers)
	var running sync.WaitGroup
	var readErr error
	running.Go(func() { readErr = cutIntoBlocks(file, stop, todo, inOrder) })
	for range workers {
		running.Go(func() {
			d := requestDecoder{names: map[string]string{}}
			for b := range todo {
				decode(&d, b)
				b.prepared = make([]T, len(b.requests))
				for i := range b.requests {
					b.prepared[i] = prepare(&b.requests[i])
				}
				close(b.decoded)
			}
		})
	}
	read, err := handOn(inOrder, fn)
	close(stop)
	running.Wait()
	if err == nil {
		err = readErr
	}
	if err != nil {
		return read, fmt.Errorf("%s:%w", path, err)
	}
	return read, nil
}

// handOn calls fn with the requests of all blocks in order. Its error begins
// with the line's number.
func handOn[T any](inOrder <-chan *block[T], fn func(*Request, T) error) (Read, error) {
	var read Read
	for b := range inOrder {
		<-b.decoded
		for i := range b.requests {
			if err := fn(&b.requests[i], b.prepared[i]); err != nil {
				return read, fmt.Errorf("%d: %w", b.first+int64(i), err)
			}
			read.Lines++
		}
		read.Cut = read.Cut || b.cut
		if b.err != nil {
			return read, fmt.Errorf("%d: %w", b.first+int64(len(b.requests)), b.err)
		}
	}
	return read, nil
}

// cutIntoBlocks reads the file and closes both channels at its end.
func cutIntoBlocks[T any](in io.Reader, stop <-chan struct{}, todo, inOrder chan<- *block[T]) error {
	defer close(inOrder)
	defer close(todo)
	var rest []byte // of a line whose end is not read yet
	for line := int64(1); ; {
		text := make([]byte, len(rest)+blockSize)
		copy(text, rest)
		n, err := io.ReadFull(in, text[len(rest):])
		text = text[:len(rest)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("%d: %w", line, err)
		}
		b := &block[T]{text: text, first: line, decoded: make(chan struct{})}
		if last {
			b.cut = len(text) > 0 && text[len(text)-1] != '\n'
		} else {
			end := bytes.LastIndexByte(text, '\n') + 1
			rest = text[end:]
			if b.text = text[:end]; len(rest) > maxLine {
				b.err = errLongLine
			}
		}
		line += int64(bytes.Count(b.text, []byte("\n")))
		select {
		case inOrder <- b:
		case <-stop:
			return nil
		}
		select {
		case todo <- b:
		case <-stop:
			close(b.decoded)
			return nil
		}
		if last {
			return nil
		}
	}
}

// requestDecoder reads what AddRequest wrote, quickly. A line that is anything
// else is left to encoding/json, so that both read and refuse the same.
type requestDecoder struct {
	parser fastjson.Parser
	names  map[string]string // names that come again and again are kept once
}

func decode[T any](d *requestDecoder, b *block[T]) {
	b.requests = make([]Request, 0, bytes.Count(b.text, []byte("\n"))+1)
	long := b.err
	b.err = nil
	for text := b.text; len(text) > 0; {
		line, left, ended := bytes.Cut(text, []byte("\n"))
		text = left
		line = bytes.TrimSpace(line)
		if !ended && !json.Valid(line) {
			break // what a cut-off run leaves
		}
		r, err := d.request(line)
		if err == nil {
			err = r.check()
		}
		if err != nil {
			b.err = err
			return
		}
		b.requests = append(b.requests, r)
	}
	b.err = long
}

func (d *requestDecoder) request(line []byte) (Request, error) {
	if r, ok := d.quick(line); ok {
		return r, nil
	}
	var r Request
	err := json.Unmarshal(line, &r)
	return r, err
}

// quick reads a plain line: UTF-8 without control characters and almost without
// escapes, every field of its type.
func (d *requestDecoder) quick(line []byte) (r Request, ok bool) {
	for i, c := range line {
		// a number that begins with 0 and goes on is none
		if c == '\\' && !isMark(line[i+1:]) || c < ' ' || c == '0' && i > 0 && i+1 < len(line) && isNumber(line[i+1]) && (line[i-1] == ':' || line[i-1] == '-') {
			return r, false
		}
	}
	if !utf8.Valid(line) {
		return r, false
	}
	v, err := d.parser.ParseBytes(line)
	if err != nil || v.Type() != fastjson.TypeObject {
		return r, false
	}
	ok = true
	v.GetObject().Visit(func(key []byte, v *fastjson.Value) {
		ok = ok && d.field(&r, key, v)
	})
	return r, ok
}

func (d *requestDecoder) field(r *Request, key []byte, v *fastjson.Value) bool {
	var err error
	switch string(key) {
	case "seq":
		r.Seq, err = v.Uint64()
	case "scheduled":
		r.Scheduled, err = v.Int64()
	case "sent":
		r.Sent, err = v.Int64()
	case "done":
		r.Done, err = v.Int64()
	case "status":
		r.Status, err = v.Int()
	case "phase":
		r.Phase, err = d.name(v)
	case "route":
		r.Route, err = d.name(v)
	case "proto":
		r.Proto, err = d.name(v)
	case "outcome":
		r.Outcome, err = d.name(v)
	case "class":
		r.Class, err = d.name(v)
	case "hop":
		r.Hop, err = d.name(v)
	case "agent":
		r.Agent, err = d.name(v)
	case "pod":
		r.Pod, err = d.name(v)
	case "hops":
		r.Hops, err = text(v)
	case "error":
		r.Error, err = text(v)
	case "orderId":
		r.OrderID, err = text(v)
	default:
		return false // encoding/json also takes keys in other cases
	}
	return err == nil
}

// isMark tells whether an escape is one of <, > and &, which encoding/json writes
// so; hops have them.
func isMark(escape []byte) bool {
	return bytes.HasPrefix(escape, []byte("u003e")) || bytes.HasPrefix(escape, []byte("u003c")) || bytes.HasPrefix(escape, []byte("u0026"))
}

func isNumber(c byte) bool { return c >= '0' && c <= '9' }

func text(v *fastjson.Value) (string, error) {
	raw, err := v.StringBytes()
	return string(raw), err
}

// maxNames bounds what a record of many names makes be kept.
const maxNames = 4096

func (d *requestDecoder) name(v *fastjson.Value) (string, error) {
	raw, err := v.StringBytes()
	if err != nil {
		return "", err
	}
	if name, known := d.names[string(raw)]; known {
		return name, nil
	}
	name := string(raw)
	if len(d.names) < maxNames {
		d.names[name] = name
	}
	return name, nil
}

package importer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/harness/traffic/accesslog"
)

// entry is a request on its way: when it came, and in key, from above, its
// number in its log, so that requests of one instant keep their order, whether
// its time is known to the second only, the class of its answer and the rule
// that knew it.
type entry struct {
	at  int64
	key uint64
}

const (
	ruleBits   = 12 // more than there may be rules
	classShift = ruleBits
	coarseBit  = 1 << (classShift + 3)
	numberAt   = classShift + 4
)

func newEntry(l *accesslog.Line, number int64, rule int) entry {
	e := entry{l.At, uint64(number)<<numberAt | uint64(l.Class&7)<<classShift | uint64(rule)}
	if l.Coarse {
		e.key |= coarseBit
	}
	return e
}

func (e entry) rule() int    { return int(e.key & (1<<ruleBits - 1)) }
func (e entry) class() uint8 { return uint8(e.key >> classShift & 7) }
func (e entry) coarse() bool { return e.key&coarseBit != 0 }

func earlier(a, b entry) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return a.key < b.key
}

// source is one log. Its lines are as good as in order: a request is held back
// until one has been read that came a window later, or until there is no more
// room; one that is later than that is counted and left out.
type source struct {
	*merge
	name   string
	number int
	start  int64 // no request came before
	parser accesslog.Parser

	in     io.ReadCloser
	lines  *accesslog.Lines
	ended  bool
	held   heap[entry]
	newest int64
	leaps  int
	floor  int64   // what was handed out is no later
	second []entry // the requests of one second that are spread over it …
	spread int     // … of which so many are handed out
	head   entry   // the next one

	line    accesslog.Line
	read    int64
	used    int64
	formats map[string]int64
	damage  error
}

// looked is how much of a log is looked at to find out when it begins.
const looked = 200 // lines

// begins returns a time before which nothing in the log came, as far as can be
// told without reading it: what is no file can be read only once.
func (s *source) begins(stdin io.Reader) (int64, error) {
	const unknown = 0
	if s.name == "-" {
		s.in = io.NopCloser(stdin)
		return unknown, nil
	}
	info, err := os.Stat(s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fault.NewInvalid(fmt.Errorf("log %s is not there", s.name), "")
	case err != nil:
		return 0, fault.NewInvalid(fmt.Errorf("open log: %w", err), "")
	case info.IsDir():
		return 0, fault.NewInvalid(fmt.Errorf("log %s is a directory", s.name), fmt.Sprintf("name its files: '%s/*'", s.name))
	case !info.Mode().IsRegular():
		return unknown, nil
	}
	return s.look()
}

// look returns the earliest time in a log's first lines.
func (s *source) look() (int64, error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	defer s.close()
	first := int64(1) << 62
	for range looked {
		line, cut, err := s.lines.Next()
		if err != nil {
			break // it will be told when the log is read
		}
		if !cut && s.parser.Parse(line, &s.line) == accesslog.OK {
			first = min(first, s.line.At)
		}
	}
	if first == 1<<62 { // nothing can be read so far, so it is opened at once
		return 0, nil
	}
	return first, nil
}

func (s *source) open() error {
	if s.in == nil {
		file, err := os.Open(s.name)
		if err != nil {
			return fault.NewInvalid(fmt.Errorf("open log: %w", err), "")
		}
		s.in = file
	}
	s.lines, s.parser = accesslog.NewLines(s.in), accesslog.New(s.format, s.rules.Fields)
	return nil
}

func (s *source) close() {
	if s.in != nil {
		_ = s.in.Close() // it was only read
		// the line is a part of what was read, and would keep it
		s.in, s.lines, s.parser, s.line = nil, nil, nil, accesslog.Line{}
	}
}

// advance finds the log's next request; false at its end.
func (s *source) advance() (bool, error) {
	if s.spread < len(s.second) {
		s.head = s.second[s.spread]
		s.spread++
		return true, nil
	}
	if err := s.fill(); err != nil {
		return false, err
	}
	if s.held.empty() {
		s.held, s.second = heap[entry]{}, nil // nothing of a log stays when it is over
		return false, nil
	}
	s.head = s.held.pop(earlier)
	if s.head.coarse() {
		s.overSecond()
	}
	s.floor = max(s.floor, s.head.at)
	return true, nil
}

const second = 1_000_000 // microseconds

// overSecond spreads the requests of one second evenly over it, in their order:
// sent as they are written, all would come at once. The first is the head.
func (s *source) overSecond() {
	s.second, s.spread = append(s.second[:0], s.head), 1
	for !s.held.empty() && s.held.top().at == s.head.at && s.held.top().coarse() {
		s.second = append(s.second, s.held.pop(earlier))
	}
	begin := s.head.at
	for i := range s.second {
		s.second[i].at = max(s.floor, begin+int64(i)*second/int64(len(s.second)))
	}
	s.head = s.second[0]
	s.floor = s.second[len(s.second)-1].at
}

// fill reads on until the earliest of what is held back may go.
func (s *source) fill() error {
	for !s.ended && s.held.size() < s.room() && (s.held.empty() || s.newest-s.held.top().at < s.window) {
		if s.read&0xfff == 0xfff {
			if err := s.ctx.Err(); err != nil {
				return err
			}
			if s.progress != nil {
				s.progress(s.tally.lines)
			}
		}
		line, cut, err := s.lines.Next()
		if err != nil {
			s.end(err)
			return nil
		}
		s.read++
		s.tally.lines++
		if cut {
			s.tally.broken(accesslog.TooLong, s, line)
			continue
		}
		s.take(line)
	}
	return nil
}

// end notes a log that breaks off; what was whole in it counts.
func (s *source) end(err error) {
	s.ended = true
	if !errors.Is(err, io.EOF) {
		s.damage = err
	}
	s.close()
}

// take reads a line and holds its request back.
func (s *source) take(line []byte) {
	if reason := s.parser.Parse(line, &s.line); reason != accesslog.OK {
		s.tally.broken(reason, s, line)
		return
	}
	if sniffer, ok := s.parser.(*accesslog.Sniffer); ok {
		s.formats[sniffer.Last()]++
	} else {
		s.formats[s.format]++
	}
	rule, ok := s.rules.Match(s.line.Method, s.line.Path)
	if !ok {
		s.tally.unmapped(&s.line, s)
		return
	}
	if s.rules.Rules[rule].Drop != "" {
		s.tally.drop(rule)
		return
	}
	if s.line.At < s.from || s.line.At >= s.to {
		s.tally.outside.count++
		return
	}
	e := newEntry(&s.line, s.read, rule)
	if e.at < s.floor {
		if !e.coarse() || e.at+second <= s.floor {
			s.tally.disorder(s)
			return
		}
		e.at = s.floor // of a second that has been spread already
		e.key &^= coarseBit
	}
	s.used++
	s.reach(e.at)
	s.held.push(e, earlier)
}

// trusted is how many lines in a row must be of another time before the log is
// taken to have got there: one line with a wrong date must not end the waiting
// for all others.
const trusted = 8

// reach notes how far the log has got.
func (s *source) reach(at int64) {
	switch {
	case at <= s.newest:
		s.leaps = 0
	case at-s.newest > s.window && s.leaps < trusted && s.newest != 0:
		s.leaps++
	default:
		s.newest, s.leaps = at, 0
	}
}

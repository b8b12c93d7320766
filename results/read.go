package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

// Read says how much of a record was there.
type Read struct {
	Lines int64
	// Cut is set when the last line has no end: the run was cut off there.
	Cut bool
}

// EachRequest calls fn with every recorded request, in the order in which they
// were done. It stops at fn's first error. A damaged line in the middle is an
// error that names file and line; a half last line is what a cut-off run
// leaves, and is only told by Read.Cut.
func (f *Folder) EachRequest(fn func(Request) error) (Read, error) {
	nothing := func(*Request) struct{} { return struct{}{} }
	return EachPrepared(f, nothing, func(r *Request, _ struct{}) error { return fn(*r) })
}

// EachPrepared is EachRequest where every request is prepared for fn first, on
// all cores: prepare is called by several goroutines at once, fn by one and in
// order. Both have the request for the time of the call.
func EachPrepared[T any](f *Folder, prepare func(*Request) T, fn func(*Request, T) error) (Read, error) {
	if err := f.flush(); err != nil {
		return Read{}, err
	}
	return eachRequest(filepath.Join(f.Path, RequestsFile), prepare, fn)
}

// Events reads all events.
func (f *Folder) Events() ([]Event, Read, error) {
	var all []Event
	read, err := each(f, EventsFile, Event.check, func(e Event) error {
		all = append(all, e)
		return nil
	})
	return all, read, err
}

// Probes reads all observations.
func (f *Folder) Probes() ([]Probe, Read, error) {
	var all []Probe
	read, err := each(f, ProbesFile, Probe.check, func(p Probe) error {
		all = append(all, p)
		return nil
	})
	return all, read, err
}

func each[T any](f *Folder, name string, check func(T) error, fn func(T) error) (Read, error) {
	if err := f.flush(); err != nil {
		return Read{}, err
	}
	lines, cut, err := eachLine(filepath.Join(f.Path, name), func(line []byte) error {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		return fn(v)
	})
	return Read{Lines: lines, Cut: cut}, err
}

func (r Request) check() error {
	switch r.Outcome {
	case OK, Rejected, Failed:
		if r.Scheduled < 0 || r.Sent < 0 || r.Done < r.Sent {
			return fmt.Errorf("request %d is done before it is sent, or out of the run's time", r.Seq)
		}
	case Undispatched:
		if r.Scheduled < 0 {
			return fmt.Errorf("request %d is scheduled before the run's start", r.Seq)
		}
	default:
		return fmt.Errorf("request %d has the unknown outcome %q", r.Seq, r.Outcome)
	}
	return nil
}

func (e Event) check() error {
	if e.Kind == "" {
		return errors.New("an event has no kind")
	}
	return nil
}

func (p Probe) check() error {
	if p.Probe == "" {
		return errors.New("an observation has no probe name")
	}
	return nil
}

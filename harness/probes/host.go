package probes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"meshsim.dev/meshsim/results"
)

// HostMeter reads how busy the host's CPUs are, and remembers the last reading,
// so that what was in between can be told. Follow and Read may run at the same
// time.
type HostMeter struct {
	proc procfs.FS
	now  func() time.Time
	last hostReading

	mu      sync.Mutex
	seconds []results.HostSecond // since the last reading
}

// hostReading holds the kernel's counters, in seconds since it started.
type hostReading struct {
	at            time.Time
	all           float64 // of all CPUs together
	idle, stolen  float64 // of that
	waiting       float64 // in which some program waited for a CPU
	tellsPressure bool
}

// NewHostMeter takes its first reading from the kernel's files at proc,
// "/proc" everywhere but in tests.
func NewHostMeter(proc string, now func() time.Time) (*HostMeter, error) {
	files, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's counters: %w", err)
	}
	m := &HostMeter{proc: files, now: now}
	m.last, err = m.read()
	return m, err
}

// Read tells how busy the CPUs were since the last reading.
func (m *HostMeter) Read() (results.HostLoad, error) {
	now, err := m.read()
	if err != nil {
		return results.HostLoad{}, err
	}
	last := m.last
	m.last = now
	all, lasted := now.all-last.all, now.at.Sub(last.at)
	if all <= 0 || lasted <= 0 {
		return results.HostLoad{}, errors.New("no time has passed since the host was looked at last")
	}
	return results.HostLoad{
		Lasted: lasted, Busy: now.busySince(last), Stolen: share(now.stolen-last.stolen, all), Waiting: now.waitingSince(last),
		Seconds: m.followed(),
	}, nil
}

// followed hands over the seconds that were followed so far.
func (m *HostMeter) followed() []results.HostSecond {
	m.mu.Lock()
	defer m.mu.Unlock()
	seconds := m.seconds
	m.seconds = nil
	return seconds
}

// Follow looks at every tick of about a second until ctx ends or the ticks do, for
// Read to hand over. It tells time by the run's clock, in nanoseconds.
func (m *HostMeter) Follow(ctx context.Context, ticks <-chan time.Time, clock func() int64) error {
	last, err := m.read()
	if err != nil {
		return err
	}
	from := clock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, more := <-ticks:
			if !more {
				return nil
			}
		}
		now, err := m.read()
		if err != nil {
			return err
		}
		to := clock()
		if now.all <= last.all || to <= from {
			continue
		}
		second := results.HostSecond{From: from, To: to, Busy: thousandths(now.busySince(last))}
		if waiting := now.waitingSince(last); waiting != nil {
			*waiting = thousandths(*waiting)
			second.Waiting = waiting
		}
		m.mu.Lock()
		m.seconds = append(m.seconds, second)
		m.mu.Unlock()
		last, from = now, to
	}
}

func thousandths(share float64) float64 { return math.Round(share*1000) / 1000 }

// busySince is the share of all CPUs' time that was used since an earlier reading.
func (r hostReading) busySince(earlier hostReading) float64 {
	all := r.all - earlier.all
	return share(all-(r.idle-earlier.idle), all)
}

// waitingSince is the share of the time since an earlier reading in which some
// program waited for a CPU, nil where the kernel does not tell.
func (r hostReading) waitingSince(earlier hostReading) *float64 {
	if !r.tellsPressure || !earlier.tellsPressure {
		return nil
	}
	waiting := share(r.waiting-earlier.waiting, r.at.Sub(earlier.at).Seconds())
	return &waiting
}

func (m *HostMeter) read() (hostReading, error) {
	stat, err := m.proc.Stat()
	if err != nil {
		return hostReading{}, fmt.Errorf("read how busy the CPUs are: %w", err)
	}
	c := stat.CPUTotal // guests' time is part of User and Nice
	r := hostReading{
		at: m.now(), idle: c.Idle + c.Iowait, stolen: c.Steal,
		all: c.User + c.Nice + c.System + c.Idle + c.Iowait + c.IRQ + c.SoftIRQ + c.Steal,
	}
	pressure, err := m.proc.PSIStatsForResource("cpu")
	switch {
	case errors.Is(err, fs.ErrNotExist): // the kernel was built or started without it
	case err != nil:
		return hostReading{}, fmt.Errorf("read how long programs waited for a CPU: %w", err)
	case pressure.Some != nil:
		r.tellsPressure = true
		r.waiting = (time.Duration(pressure.Some.Total) * time.Microsecond).Seconds()
	}
	return r, nil
}

// share is part of whole, from 0 to 1: counters of several CPUs are not read in
// one instant.
func share(part, whole float64) float64 { return min(max(part/whole, 0), 1) }

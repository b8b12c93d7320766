package probes

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prometheus/procfs"

	"meshsim.dev/meshsim/results"
)

// HostMeter reads how busy the host's CPUs are, and remembers the last reading,
// so that what was in between can be told.
type HostMeter struct {
	proc procfs.FS
	now  func() time.Time
	last hostReading
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
	seen := results.HostLoad{
		Lasted: lasted,
		Busy:   share(all-(now.idle-last.idle), all),
		Stolen: share(now.stolen-last.stolen, all),
	}
	if now.tellsPressure && last.tellsPressure {
		waiting := share(now.waiting-last.waiting, lasted.Seconds())
		seen.Waiting = &waiting
	}
	return seen, nil
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

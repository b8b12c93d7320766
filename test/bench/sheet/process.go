package sheet

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
)

// Memory is what a process has resident, what of that are pages of files, and
// the most it ever had, in bytes.
type Memory struct{ Now, File, Peak int64 }

// MemoryOf reads the memory of a process by its number, or "self". What the
// kernel tells a parent of its child has the parent's own memory in it, from
// before the exec; this has not.
func MemoryOf(pid string) (Memory, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return Memory{}, err
	}
	return parseStatus(string(text))
}

// ForgetPeak begins anew to look for the most memory that a process ever has.
func ForgetPeak(pid string) error {
	return os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0)
}

// parseStatus reads /proc/<pid>/status.
func parseStatus(text string) (Memory, error) {
	var m Memory
	into := map[string]*int64{"VmRSS": &m.Now, "RssFile": &m.File, "VmHWM": &m.Peak}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		v := into[name]
		if v == nil {
			continue
		}
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 40)
		if err != nil {
			return Memory{}, fmt.Errorf("%s: %w", name, err)
		}
		*v = int64(kb << 10)
		delete(into, name)
	}
	if len(into) > 0 {
		return Memory{}, fmt.Errorf("lacks %s", strings.Join(slices.Sorted(maps.Keys(into)), ", "))
	}
	return m, nil
}

// Profile records where CPU and memory go, into files that begin with prefix,
// until stop is called; without a prefix it records nothing. It makes their folder.
func Profile(prefix string) (stop func() error, err error) {
	if prefix == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(prefix), 0o755); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	cpu, err := os.Create(prefix + ".cpu.pprof")
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(prefix + ".allocs.pprof")
		if err != nil {
			return errors.Join(fmt.Errorf("profile: %w", err), cpu.Close())
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), cpu.Close())
	}, nil
}

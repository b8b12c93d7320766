package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// limits are the kernel settings that a cluster of several nodes needs at
// least. Each node's systemd, containerd and kubelet watch many files, and the
// defaults are made for one machine.
var limits = []struct {
	path string // below /proc/sys
	want int
}{
	{"fs/inotify/max_user_instances", 1024},
	{"fs/inotify/max_user_watches", 524288},
}

// LimitSettings lists the limits as sysctl takes them, "name=value".
func LimitSettings() []string {
	var settings []string
	for _, l := range limits {
		settings = append(settings, fmt.Sprintf("%s=%d", sysctlName(l.path), l.want))
	}
	return settings
}

// LowLimits lists the limits that are too low, "name=value" with the present
// value. proc is normally /proc; what cannot be read there is left out.
func LowLimits(proc string) []string {
	var low []string
	for _, l := range limits {
		if have, err := readLimit(proc, l.path); err == nil && have < l.want {
			low = append(low, fmt.Sprintf("%s=%d", sysctlName(l.path), have))
		}
	}
	return low
}

// RaiseLimits sets every limit that is too low.
func RaiseLimits(proc string) error {
	var failed []string
	for _, l := range limits {
		have, err := readLimit(proc, l.path)
		if err != nil || have >= l.want {
			continue
		}
		if err := os.WriteFile(filepath.Join(proc, "sys", l.path), []byte(strconv.Itoa(l.want)), 0o644); err != nil {
			failed = append(failed, sysctlName(l.path))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("raise %s: not permitted", strings.Join(failed, ", "))
	}
	return nil
}

func readLimit(proc, path string) (int, error) {
	data, err := os.ReadFile(filepath.Join(proc, "sys", path))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func sysctlName(path string) string { return strings.ReplaceAll(path, "/", ".") }

func (m *manager) raiseLimits() {
	if err := RaiseLimits(m.host.proc); err != nil {
		m.Log.Warn("a cluster of many nodes may lack file watches", "err", err)
	}
}

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// capabilityNames are Linux's capabilities in the order of their numbers.
var capabilityNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// MissingCapabilities returns what the kernel has and this process may not
// give to a container. proc is normally /proc.
func MissingCapabilities(proc string) ([]string, error) {
	status, err := os.ReadFile(filepath.Join(proc, "self/status"))
	if err != nil {
		return nil, fmt.Errorf("read this process's capabilities: %w", err)
	}
	bounding, err := statusMask(string(status), "CapBnd")
	if err != nil {
		return nil, err
	}
	permitted, err := statusMask(string(status), "CapPrm")
	if err != nil {
		return nil, err
	}
	last := len(capabilityNames) - 1
	if text, err := os.ReadFile(filepath.Join(proc, "sys/kernel/cap_last_cap")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n < last {
			last = n
		}
	}
	var missing []string
	for i := 0; i <= last; i++ {
		if bounding&permitted&(1<<i) == 0 {
			missing = append(missing, capabilityNames[i])
		}
	}
	return missing, nil
}

// statusMask reads one hexadecimal line of /proc/self/status.
func statusMask(status, field string) (uint64, error) {
	for line := range strings.Lines(status) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name != field {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", field, err)
		}
		return mask, nil
	}
	return 0, fmt.Errorf("no %s in /proc/self/status", field)
}

package kind

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/topology"
)

// hostInfo is what the engine tells of the machine that its containers run on,
// which is not always the one that meshsim runs on.
type hostInfo struct {
	CPUs          int    `json:"NCPU"`
	MemoryBytes   int64  `json:"MemTotal"`
	DockerRoot    string `json:"DockerRootDir"`
	CgroupVersion string `json:"CgroupVersion"`
}

func askHost(ctx context.Context, runner command.Runner, e *engine.Engine) (hostInfo, error) {
	out, err := runner.Run(ctx, e.Docker("info", "--format", "{{json .}}"))
	if err != nil {
		return hostInfo{}, fmt.Errorf("ask the container engine about its host: %w", err)
	}
	var h hostInfo
	if err := json.Unmarshal(out.Stdout, &h); err != nil {
		return hostInfo{}, fmt.Errorf("read what docker info says: %w", err)
	}
	return h, nil
}

// What a cluster takes before anything is installed on it. Measured: seven idle
// nodes of Kubernetes 1.24 use 1.4 GB.
const (
	memoryForControlPlane = 768 << 20
	memoryForWorker       = 160 << 20
	// diskForCluster holds the unpacked images of one node image, the nodes'
	// copies of the stack's images and the volumes of a short rehearsal.
	diskForCluster = 5 << 30
)

// NeededMemory is what an empty cluster of this shape takes, in bytes.
func NeededMemory(t *topology.Topology) int64 {
	return memoryForControlPlane + memoryForWorker*int64(len(t.Workers()))
}

// NeededDisk is what must be free where the engine keeps its data, in bytes.
func NeededDisk() int64 { return diskForCluster }

// machine holds the edges that preflight looks through.
type machine struct {
	freeDisk   func(path string) (int64, error)
	freeMemory func() (int64, error)
	portFree   func(port int) error
}

func newMachine() machine {
	return machine{freeDisk: FreeDisk, freeMemory: func() (int64, error) { return FreeMemory("/proc/meminfo") }, portFree: PortFree}
}

// preflight refuses what cannot go well, before anything is made.
func (m machine) preflight(h hostInfo, t *topology.Topology, ports ...int) error {
	var problems []error
	for _, port := range ports {
		if port == 0 {
			continue
		}
		if err := m.portFree(port); err != nil {
			problems = append(problems, fault.NewEnvironment(fmt.Errorf("port 127.0.0.1:%d is taken: %w", port, err),
				fmt.Sprintf("end what listens on port %d (`ss -ltnp` names it), or choose another port", port)))
		}
	}
	if have, err := m.freeMemory(); err == nil && have < NeededMemory(t) {
		problems = append(problems, fault.NewEnvironment(fmt.Errorf("the host has %s of memory free, and %d nodes take %s", GiB(have), len(t.Workers())+1, GiB(NeededMemory(t))),
			"free memory, or raise a smaller topology such as ci"))
	}
	// Where the engine is on another machine its folder is not to be seen here.
	if have, err := m.freeDisk(h.DockerRoot); err == nil && have < NeededDisk() {
		problems = append(problems, fault.NewEnvironment(fmt.Errorf("%s has %s of disk free, and a cluster takes %s", h.DockerRoot, GiB(have), GiB(NeededDisk())),
			"free disk space there, or move the cache by MESHSIM_CACHE"))
	}
	return errors.Join(problems...)
}

// GiB writes bytes as people count memory and disk.
func GiB(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// FreeDisk is the space left for root below path, in bytes.
func FreeDisk(path string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// FreeMemory is MemAvailable of a meminfo file, in bytes.
func FreeMemory(meminfo string) (int64, error) {
	data, err := os.ReadFile(meminfo)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if name != "MemAvailable" || len(fields) == 0 {
			continue
		}
		kib, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", meminfo, err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("%s: %w", meminfo, fs.ErrNotExist)
}

// PortFree tells whether a TCP port on 127.0.0.1 can be listened on.
func PortFree(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

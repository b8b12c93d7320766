package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakemesh/proxy"
	"meshsim.dev/meshsim/fakemesh/proxy/process"
	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// A child is this program again, in a role that the environment names.
const (
	envRole = "MESH_BENCH_ROLE"
	envTask = "MESH_BENCH_TASK" // JSON of a task

	roleProxies = "proxies"
	roleApp     = "app"
)

// task is what a child does.
type task struct {
	Pods    []map[string]string // the environments of the proxies
	Web     string              // where the application listens
	Opaque  string
	Profile string // file names begin with it; "" is no profile
}

// runRole is a child's life. It ends when it is told to, or when its parent does.
func runRole(ctx context.Context, role string, env func(string) string) error {
	var t task
	if err := json.Unmarshal([]byte(env(envTask)), &t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the parent's end of it closes with the parent
		cancel()
	}()
	switch role {
	case roleProxies:
		return runProxies(ctx, t)
	case roleApp:
		return runApp(ctx, t)
	}
	return fmt.Errorf("no such role: %s", role)
}

func runApp(ctx context.Context, t task) error {
	web, err := net.Listen("tcp4", t.Web)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	opaque, err := net.Listen("tcp4", t.Opaque)
	if err != nil {
		return fmt.Errorf("listen for TCP: %w", err)
	}
	s := echo.Start(web, opaque)
	<-ctx.Done()
	over, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for an answer any more
	_ = s.Shutdown(over)
	return nil
}

func runProxies(ctx context.Context, t task) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	stop, err := sheet.Profile(t.Profile)
	if err != nil {
		return err
	}
	errs := make([]error, len(t.Pods))
	var wg sync.WaitGroup
	for i, env := range t.Pods {
		c, err := loopmesh.Config(func(name string) string { return env[name] })
		if err != nil {
			return err
		}
		// As the real program does.
		if err := process.Fit(c.Cores); err != nil {
			return err
		}
		if i == 0 { // the pages are the whole process's
			c.OnReady = func(ctx context.Context) {
				if err := process.StaySmall(ctx); err != nil {
					log.Warn("the process is larger than it need be", "error", err)
				}
			}
		}
		wg.Go(func() { errs[i] = proxy.Run(ctx, c, log) })
	}
	wg.Wait()
	return errors.Join(append(errs, stop())...)
}

// program is a running child, or another program with its own children.
type program struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan error
}

// startChild starts this program in a role.
func startChild(name, role string, t task) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("write the task of %s: %w", name, err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envRole+"="+role, envTask+"="+string(text))
	if role == roleProxies {
		cmd.Env = append(cmd.Env, "GODEBUG="+process.GoDebug) // as the injector does
	}
	return startProcess(name, cmd)
}

func startProcess(name string, cmd *exec.Cmd) (*program, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &program{name: name, cmd: cmd, stdin: stdin, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p, nil
}

// stopTimeout is for a proxy that lets its connections end.
const stopTimeout = 15 * time.Second

func (p *program) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s had to be killed", p.name)
	}
}

// pids are the process and its children.
func (p *program) pids() []int {
	pid := p.cmd.Process.Pid
	all := []int{pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for word := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(word); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// cpu is the time on a core that the process and its children have had.
func (p *program) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.pids() {
		// The clock of another process: clock_getcpuclockid(3).
		var now unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
			return 0, fmt.Errorf("read the CPU time of %s: %w", p.name, err)
		}
		sum += time.Duration(now.Nano())
	}
	return sum, nil
}

func (p *program) memory() (sheet.Memory, error) {
	m, err := sheet.MemoryOf(strconv.Itoa(p.cmd.Process.Pid))
	if err != nil {
		return m, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	return m, nil
}

// awaitListening returns when something accepts at addr.
func awaitListening(ctx context.Context, addr netip.AddrPort) error {
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp4", addr.String())
		if err == nil {
			return c.Close()
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("wait for %s: %w", addr, err)
		}
	}
}

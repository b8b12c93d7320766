package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
)

const (
	// startTimeout is for a daemon to answer; a cold data root takes some seconds.
	startTimeout = time.Minute
	startPoll    = 100 * time.Millisecond
)

// findPrivate returns the private engine when it runs and works, else nil.
func (m *manager) findPrivate(ctx context.Context) (*Engine, error) {
	s, err := readState(m.paths.state)
	if err != nil || s == nil || s.Version == "" {
		return nil, nil // half made, or none: starting clears it up
	}
	e := m.engineOf(s)
	if _, _, err := m.identify(ctx, e); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		m.Log.Info("the private engine does not answer", "err", firstLine(err))
		return nil, nil
	}
	return e, nil
}

func (m *manager) engineOf(s *state) *Engine {
	return &Engine{Private: true, Host: m.paths.dockerHost(), Version: s.Version, Wrapped: s.Wrapped, Missing: s.Missing, Log: m.paths.log}
}

// startPrivate brings up containerd and dockerd and proves that they can run a
// privileged container. When anything fails nothing is left running.
func (m *manager) startPrivate(ctx context.Context) (_ *Engine, err error) {
	task := m.Progress.Start("start a private container engine")
	defer func() {
		if err == nil {
			task.Done("")
			return
		}
		task.Fail(errors.New(firstLine(err)))
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if serr := m.stop(clean); serr != nil {
			err = errors.Join(err, serr)
		}
	}()
	if m.leftovers() {
		if err := m.stop(ctx); err != nil {
			return nil, fmt.Errorf("clear away what an earlier private engine left: %w", err)
		}
	}
	s, err := m.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.startDaemons(ctx, s); err != nil {
		return nil, err
	}
	e := m.engineOf(s)
	_, version, err := m.identify(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("ask the private engine who it is: %w", err)
	}
	// What a killed engine left in its data root would be started again.
	if err := m.emptyEngine(ctx, e); err != nil {
		return nil, err
	}
	if err := m.probe(ctx, e); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fault.NewEnvironment(fmt.Errorf("the private engine cannot run privileged containers: %w", err),
			"run meshsim on a machine (or in a container) that may create namespaces, mounts and devices; `meshsim doctor` tells what is missing")
	}
	s.Version, e.Version, e.Started = version, version, true
	m.raiseLimits()
	return e, writeState(m.paths.state, s)
}

// prepare makes folders, links, rules and config, and writes the first state.
func (m *manager) prepare(ctx context.Context) (*state, error) {
	for _, dir := range []string{m.paths.data, m.paths.run, filepath.Dir(m.paths.wrapper)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fault.NewEnvironment(fmt.Errorf("make the engine's folder: %w", err), "make the folder writable, or set MESHSIM_CACHE to another place")
		}
	}
	missing, err := MissingCapabilities(m.host.proc)
	if err != nil {
		return nil, err
	}
	taken, err := m.host.network.taken()
	if err != nil {
		return nil, err
	}
	pool, err := choosePool(taken)
	if err != nil {
		return nil, err
	}
	s := &state{Pool: pool, Missing: missing, Wrapped: len(missing) > 0}
	if err := writeState(m.paths.state, s); err != nil {
		return nil, err
	}
	if s.Wrapped {
		m.Log.Info("this host holds capabilities back, so containers start through a wrapper", "missing", strings.Join(missing, " "))
		if err := m.installWrapper(ctx); err != nil {
			return nil, err
		}
	}
	if err := m.host.network.addBridge(m.paths.bridge(), bridgeAddress(pool)); err != nil {
		return nil, fault.NewEnvironment(err, "the kernel must allow bridge links to be made (CAP_NET_ADMIN, module bridge)")
	}
	if err := m.host.network.addRules(ctx, pool, m.paths.ruleComment()); err != nil {
		return nil, fault.NewEnvironment(err, "see that `iptables -t nat -L` works on this machine")
	}
	if err := m.writeConfig(s); err != nil {
		return nil, fmt.Errorf("write the engine's config: %w", err)
	}
	return s, nil
}

func (m *manager) containerdConfig() string {
	return filepath.Join(m.paths.dir, "containerd.toml")
}

func (m *manager) writeConfig(s *state) error {
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\n[grpc]\n  address = %q\n",
		filepath.Join(m.paths.dir, "containerd"), filepath.Join(m.paths.run, "containerd"), m.paths.containerdSocket)
	if err := os.WriteFile(m.containerdConfig(), []byte(config), 0o600); err != nil {
		return err
	}
	data, err := json.MarshalIndent(m.daemonConfig(s), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(m.paths.config, append(data, '\n'), 0o600)
}

// daemonConfig is the private dockerd's daemon.json.
func (m *manager) daemonConfig(s *state) map[string]any {
	config := map[string]any{
		"hosts":      []string{m.paths.dockerHost()},
		"group":      "root",
		"data-root":  m.paths.data,
		"exec-root":  filepath.Join(m.paths.run, "exec"),
		"pidfile":    filepath.Join(m.paths.run, "dockerd.pid"),
		"containerd": m.paths.containerdSocket,
		"bridge":     m.paths.bridge(),
		"iptables":   false, // see rules
		"ip6tables":  false,
		"ip-masq":    false,
		"default-address-pools": []map[string]any{
			{"base": networkPool(s.Pool).String(), "size": 24},
		},
		"cgroup-parent":    "/" + m.paths.cgroup(),
		"exec-opts":        []string{"native.cgroupdriver=cgroupfs"},
		"log-driver":       "json-file",
		"log-opts":         map[string]string{"max-size": "20m", "max-file": "2"},
		"log-level":        "warn",
		"shutdown-timeout": 10,
	}
	if s.Wrapped {
		config["runtimes"] = map[string]any{"meshsim": map[string]any{"path": m.paths.wrapper}}
		config["default-runtime"] = "meshsim"
		config["oom-score-adjust"] = 0 // lowering it takes CAP_SYS_RESOURCE
	}
	return config
}

// startDaemons starts containerd, then dockerd, and waits until each answers.
func (m *manager) startDaemons(ctx context.Context, s *state) error {
	containerd, err := m.startDaemon([]string{"containerd", "--config", m.containerdConfig()}, m.paths.containerdLog())
	if err != nil {
		return err
	}
	s.Containerd = containerd.pid
	if err := writeState(m.paths.state, s); err != nil {
		return err
	}
	err = m.await(ctx, containerd, m.paths.containerdLog(), "containerd", func() bool {
		_, err := os.Stat(m.paths.containerdSocket)
		return err == nil
	})
	if err != nil {
		return err
	}
	dockerd, err := m.startDaemon([]string{"dockerd", "--config-file", m.paths.config}, m.paths.log)
	if err != nil {
		return err
	}
	s.Dockerd = dockerd.pid
	if err := writeState(m.paths.state, s); err != nil {
		return err
	}
	e := m.engineOf(s)
	return m.await(ctx, dockerd, m.paths.log, "dockerd", func() bool {
		if _, err := os.Stat(m.paths.socket); err != nil {
			return false
		}
		_, err := m.Runner.Run(ctx, e.Docker("version", "--format", "{{.Server.Version}}"))
		return err == nil
	})
}

func (m *manager) startDaemon(argv []string, log string) (*daemon, error) {
	path, err := m.host.lookPath(argv[0])
	if err != nil {
		return nil, fault.NewEnvironment(fmt.Errorf("start the private engine: %w", err), "apt-get install docker.io")
	}
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	argv[0] = path
	d, err := m.host.spawn(argv, log)
	if err != nil {
		return nil, fault.NewEnvironment(fmt.Errorf("start the private engine: %w", err), "")
	}
	return d, nil
}

// await polls until ready, and fails with the log's end when the daemon dies first.
func (m *manager) await(ctx context.Context, d *daemon, log, name string, ready func() bool) error {
	deadline := time.Now().Add(startTimeout)
	for {
		if ready() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		switch {
		case !d.alive():
			return fault.NewEnvironment(fmt.Errorf("%s ended as it started: %s", name, logTail(log)), "the whole of its log is in "+log)
		case time.Now().After(deadline):
			return fault.NewEnvironment(fmt.Errorf("%s did not answer within %s: %s", name, startTimeout, logTail(log)), "the whole of its log is in "+log)
		}
		_ = pause.For(ctx, startPoll)
	}
}

// logTail returns a log's last lines.
func logTail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}

// leftovers tells whether there is anything of a private engine on the machine.
func (m *manager) leftovers() bool {
	_, err := os.Stat(m.paths.run)
	return err == nil
}

// pool returns the state's pool, or an invalid prefix.
func (s *state) pool() netip.Prefix {
	if s == nil {
		return netip.Prefix{}
	}
	return s.Pool
}

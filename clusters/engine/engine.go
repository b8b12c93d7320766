// Package engine finds a container engine that can carry a cluster, and where
// there is none makes a private one.
//
// A cluster's nodes are privileged containers. The host's Docker is used when
// such a container really runs there; it is tried, not assumed. Otherwise, as
// root on Debian or Ubuntu, docker.io is installed where it is missing and a
// dockerd of meshsim's own is started. The private engine shares nothing with
// one that is already there: data below the cache, sockets, pid files and state
// below /run/meshsim-engine, its own containerd, bridge, address pool, cgroup
// and packet filter rules. It outlives the process that started it, and Stop
// takes all of it away again except the images.
//
// There is one private engine for each cache folder. Ensure, Find and Stop may
// be called by several meshsim processes at a time; a file lock puts them in line.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine/filelock"
	"meshsim.dev/meshsim/clusters/progress"
)

// ErrNone says that no usable engine is running.
var ErrNone = errors.New("no usable container engine is running")

// Options is what every call needs. Cache and Runner must be set.
type Options struct {
	Cache    cache.Dir
	Runner   command.Runner
	Log      *slog.Logger       // nil is silent
	Progress *progress.Reporter // nil is silent
	Self     string             // path of the meshsim executable; it is copied to serve as OCI runtime wrapper
}

// Engine is a container engine that runs privileged containers.
type Engine struct {
	Private bool     `json:"private"`
	Host    string   `json:"host"`              // unix:///…; "" is docker's default
	Version string   `json:"version"`           // of the server, "20.10.24+dfsg1"
	Wrapped bool     `json:"wrapped"`           // containers start through the OCI runtime wrapper
	Missing []string `json:"missing,omitempty"` // capabilities that the host lacks, as CAP_SYS_RESOURCE
	Log     string   `json:"log,omitempty"`     // path of the private engine's log; "" otherwise
	Started bool     `json:"-"`                 // by the call that returned it
}

// Docker returns the command `docker args…` aimed at this engine.
func (e *Engine) Docker(args ...string) command.Cmd {
	return command.Cmd{Argv: append([]string{"docker"}, args...), Env: e.Env()}
}

// Env returns the variables that aim docker at this engine; none means docker's default.
func (e *Engine) Env() []string {
	if e.Host == "" {
		return nil
	}
	// An engine on a local socket is never spoken to by TLS.
	return []string{"DOCKER_HOST=" + e.Host, "DOCKER_TLS_VERIFY=", "DOCKER_CERT_PATH="}
}

// Ensure returns a usable engine, starting (and on Debian installing) a private
// one where needed. When that is impossible the error is a fault.Environment.
func Ensure(ctx context.Context, o Options) (*Engine, error) {
	m := newManager(o)
	unlock, err := filelock.Lock(ctx, m.paths.lock, "the container engine")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return m.ensure(ctx)
}

// Find returns a usable engine that is running, or an error that is ErrNone. It
// starts nothing that stays.
func Find(ctx context.Context, o Options) (*Engine, error) {
	m := newManager(o)
	e, err := m.findPrivate(ctx)
	if err != nil || e != nil {
		return e, err
	}
	e, why, err := m.findHost(ctx)
	if err != nil || e != nil {
		return e, err
	}
	return nil, fmt.Errorf("%w: %s", ErrNone, why)
}

// Stop removes every container of the private engine and ends it. Its images
// stay in the cache. It does nothing where there is no private engine, and
// never touches the host's.
func Stop(ctx context.Context, o Options) error {
	m := newManager(o)
	if !m.leftovers() {
		return nil
	}
	unlock, err := filelock.Lock(ctx, m.paths.lock, "the container engine")
	if err != nil {
		return err
	}
	defer unlock()
	return m.stop(ctx)
}

// manager is one call's view of the machine; tests replace its edges.
type manager struct {
	Options
	paths paths
	host  host
}

func newManager(o Options) *manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = progress.Discard()
	}
	return &manager{Options: o, paths: pathsFor(o.Cache, runRoot), host: newHost(o)}
}

// ensure is Ensure without the lock.
func (m *manager) ensure(ctx context.Context) (*Engine, error) {
	e, err := m.findPrivate(ctx)
	if err != nil {
		return nil, err
	}
	if e != nil {
		m.raiseLimits()
		m.refreshWrapper(ctx, e)
		return e, nil
	}
	e, why, err := m.findHost(ctx)
	if err != nil {
		return nil, err
	}
	if e != nil {
		m.raiseLimits()
		return e, nil
	}
	m.Log.Info("the host's container engine cannot be used", "why", why)
	switch plan, cause := decide(m.facts(why)); plan {
	case installAndStart:
		if err := m.install(ctx); err != nil {
			return nil, err
		}
		// Installing may have started the system's own daemon.
		if e, _, err := m.findHost(ctx); err != nil || e != nil {
			return e, err
		}
		return m.startPrivate(ctx)
	case start:
		return m.startPrivate(ctx)
	default:
		return nil, cause
	}
}

// findHost tries the host's Docker. A nil Engine comes with the reason.
func (m *manager) findHost(ctx context.Context) (e *Engine, why string, err error) {
	if _, err := m.host.lookPath("docker"); err != nil {
		return nil, "there is no docker command", nil
	}
	e = &Engine{}
	id, version, err := m.identify(ctx, e)
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	if err != nil {
		return nil, "docker does not answer: " + firstLine(err), nil
	}
	e.Version = version
	if m.probeRemembered(id) {
		return e, "", nil
	}
	err = m.probe(ctx, e)
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	if err != nil {
		return nil, "docker does not run privileged containers: " + firstLine(err), nil
	}
	m.rememberProbe(id)
	return e, "", nil
}

// identify asks a server who it is; the id changes when the server is replaced.
func (m *manager) identify(ctx context.Context, e *Engine) (id, version string, err error) {
	out, err := m.Runner.Run(ctx, e.Docker("info", "--format", "{{.ID}} {{.ServerVersion}}"))
	if err != nil {
		return "", "", noServer(err)
	}
	fields := strings.Fields(string(out.Stdout))
	if len(fields) != 2 {
		return "", "", fmt.Errorf("docker info answered %q", strings.TrimSpace(string(out.Stdout)))
	}
	return fields[0], fields[1], nil
}

// noServer is err, in plain words where an older docker command says only that
// its template met no server.
func noServer(err error) error {
	if ce, ok := errors.AsType[*command.Error](err); ok && strings.HasPrefix(string(ce.Stderr), "template:") {
		return errors.New("its server cannot be reached")
	}
	return err
}

// firstLine is the part of a command's error that says most: the last line the
// program wrote, cut to one line.
func firstLine(err error) string {
	if ce, ok := errors.AsType[*command.Error](err); ok {
		text := strings.TrimSpace(string(ce.Stderr))
		if text != "" {
			lines := strings.Split(text, "\n")
			for _, l := range lines {
				if strings.Contains(strings.ToLower(l), "error") || strings.Contains(l, "Cannot connect") {
					return strings.TrimSpace(l)
				}
			}
			return strings.TrimSpace(lines[0])
		}
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

//go:build postgres

package shoptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/fakeshop/chart"
)

// Postgres is a real PostgreSQL on loopback, started by the very entry script
// that the chart gives to its pod.
type Postgres struct {
	Host       string
	Port       uint16
	User       string
	Password   string
	SecretsDir string // as the services read it

	primary *Postgres // of a replica
	dir     string
	bin     string
	cred    *syscall.Credential // of the user postgres, nil when that is who we are
	cmd     *exec.Cmd
	done    chan error
}

// StartPostgres starts Debian's PostgreSQL as the user postgres, in an empty
// directory. It needs root, to become that user, or to be that user.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	return launch(ctx, &Postgres{Password: rand.Text()})
}

// StartReplica starts a streaming replica, and returns when it follows.
func (p *Postgres) StartReplica(ctx context.Context) (*Postgres, error) {
	return launch(ctx, &Postgres{Password: p.Password, primary: p})
}

func launch(ctx context.Context, p *Postgres) (_ *Postgres, err error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, errors.New("no PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")
	}
	p.Host, p.User, p.bin, p.done = "127.0.0.1", "shop", bins[len(bins)-1], make(chan error, 1)
	if p.dir, err = os.MkdirTemp("", "shop"); err != nil {
		return nil, fmt.Errorf("making a directory for PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(p.dir)
		}
	}()
	if err := p.prepare(); err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

// prepare writes the script, the secrets and the directories.
func (p *Postgres) prepare() error {
	owner, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("looking for the user postgres: %w", err)
	}
	uid, _ := strconv.Atoi(owner.Uid) // numbers on every Unix
	gid, _ := strconv.Atoi(owner.Gid)
	if os.Getuid() == 0 {
		p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	script, err := chart.FS.ReadFile("files/postgres-entry.sh")
	if err != nil {
		return fmt.Errorf("reading the entry script: %w", err)
	}
	p.SecretsDir = filepath.Join(p.dir, "secrets")
	files := map[string]string{"entry.sh": string(script), "secrets/db-user": p.User + "\n", "secrets/db-password": p.Password + "\n", "secrets/payment-key": "test\n", "replication/password": p.Password + "\n"}
	for _, d := range []string{"", "secrets", "replication", "data", "run"} {
		if err := os.MkdirAll(filepath.Join(p.dir, d), 0o755); err != nil {
			return fmt.Errorf("making a directory for PostgreSQL: %w", err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing for PostgreSQL: %w", err)
		}
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return fmt.Errorf("opening PostgreSQL's directory: %w", err)
	}
	if p.cred == nil {
		return nil
	}
	for _, d := range []string{"data", "run"} {
		if err := os.Chown(filepath.Join(p.dir, d), uid, gid); err != nil {
			return fmt.Errorf("giving a directory to postgres: %w", err)
		}
	}
	return nil
}

// start runs the entry script until PostgreSQL takes connections.
func (p *Postgres) start(ctx context.Context) error {
	// Below the ports that outgoing connections are given, to find it free
	// again after a restart.
	for range 1000 {
		p.Port = uint16(10000 + mathrand.IntN(20000))
		l, err := net.Listen("tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))))
		if err == nil {
			_ = l.Close()
			return p.Restart(ctx)
		}
	}
	return errors.New("no port is free for PostgreSQL")
}

// Restart starts PostgreSQL on its data, after Shutdown.
func (p *Postgres) Restart(ctx context.Context) error {
	var out bytes.Buffer
	p.cmd = p.command("/bin/sh", filepath.Join(p.dir, "entry.sh"))
	p.cmd.Stdout, p.cmd.Stderr = &out, &out
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	for {
		ready := p.command("/bin/sh", filepath.Join(p.dir, "entry.sh"), "ready")
		// While initialising it answers on the socket already, not on TCP.
		if ready.Run() == nil && p.listens(ctx) {
			return nil
		}
		select {
		case err := <-p.done:
			return fmt.Errorf("PostgreSQL ended: %w\n%s", err, out.String())
		case <-ctx.Done():
			return fmt.Errorf("waiting for PostgreSQL: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *Postgres) listens(ctx context.Context) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (p *Postgres) command(argv ...string) *exec.Cmd {
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = "/"
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPORT=" + strconv.Itoa(int(p.Port)), "PG_LISTEN=" + p.Host,
		"PG_BIN=" + p.bin, "PG_DATA=" + filepath.Join(p.dir, "data", "db"), "PG_RUN=" + filepath.Join(p.dir, "run"),
		"PG_SECRETS=" + p.SecretsDir, "PG_REPLICATION=" + filepath.Join(p.dir, "replication"), "PG_MAX_CONNECTIONS=100"}
	if p.primary != nil {
		c.Env = append(c.Env, "PG_ROLE=replica", "PG_PRIMARY="+p.primary.Host, "PG_PRIMARY_PORT="+strconv.Itoa(int(p.primary.Port)))
	}
	if p.cred != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	}
	return c
}

// SQL runs statements as the superuser through the local socket, as a probe in
// the pod does, and returns the rows: columns parted by "|".
func (p *Postgres) SQL(statements ...string) ([]string, error) {
	return p.SQLIn("shop", statements...)
}

// SQLIn is SQL in another database.
func (p *Postgres) SQLIn(database string, statements ...string) ([]string, error) {
	args := []string{filepath.Join(p.bin, "psql"), "--host=" + filepath.Join(p.dir, "run"), "--username=postgres",
		"--dbname=" + database, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"}
	for _, s := range statements {
		args = append(args, "--command="+s)
	}
	out, err := p.command(args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("psql: %w: %s", err, out)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(s string) bool { return s == "" }), nil
}

// DataDir is where the database's files are, and the working directory of its
// processes.
func (p *Postgres) DataDir() string { return filepath.Join(p.dir, "data", "db") }

// Shutdown ends PostgreSQL as Kubernetes does, and keeps its data.
func (p *Postgres) Shutdown() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending PostgreSQL: %w", err)
	}
	select {
	case err := <-p.done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("PostgreSQL does not end")
	}
}

// Crash ends PostgreSQL as a dying machine would: what it has not written is
// gone.
func (p *Postgres) Crash() error {
	data, err := os.ReadFile(filepath.Join(p.DataDir(), "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("looking for PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("looking for PostgreSQL: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("crashing PostgreSQL: %w", err)
	}
	<-p.done // with whatever code a crash has
	return nil
}

// Stop ends PostgreSQL and removes its data.
func (p *Postgres) Stop() error {
	return errors.Join(p.Shutdown(), os.RemoveAll(p.dir))
}

// Follow makes a replica that is shut down follow another primary from its next
// start on.
func (p *Postgres) Follow(primary *Postgres) error {
	p.primary = primary
	err := os.WriteFile(filepath.Join(p.dir, "replication", "password"), []byte(primary.Password+"\n"), 0o644)
	if err != nil {
		return fmt.Errorf("writing for PostgreSQL: %w", err)
	}
	return nil
}

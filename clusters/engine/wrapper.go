package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/command"
)

const handshakeTimeout = 20 * time.Second

// installWrapper puts a copy of Self in the wrapper's place when it differs. A
// new file takes the old one's place, so containers being started are not
// disturbed, and only after it has shown that it can serve.
func (m *manager) installWrapper(ctx context.Context) error {
	self, err := os.Stat(m.Self)
	if err != nil {
		return fmt.Errorf("copy meshsim to serve as OCI runtime: %w", err)
	}
	have, err := os.Stat(m.paths.wrapper)
	if err == nil && have.Size() == self.Size() && have.ModTime().Equal(self.ModTime()) {
		return nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(m.paths.wrapper), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	candidate := filepath.Join(dir, WrapperName)
	if err := copyProgram(m.Self, candidate); err != nil {
		return fmt.Errorf("copy meshsim to serve as OCI runtime: %w", err)
	}
	if err := os.Chtimes(candidate, self.ModTime(), self.ModTime()); err != nil {
		return err
	}
	ask, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	out, err := m.Runner.Run(ask, command.Cmd{Argv: []string{candidate, handshakeFlag}})
	if err != nil {
		return fmt.Errorf("%s does not serve as OCI runtime: %w", m.Self, err)
	}
	if got := strings.TrimSpace(string(out.Stdout)); got != handshakeAnswer {
		return fmt.Errorf("%s does not serve as OCI runtime: it answered %q", m.Self, got)
	}
	return os.Rename(candidate, m.paths.wrapper)
}

// refreshWrapper follows a meshsim that was built anew. The running engine's
// own wrapper goes on serving when that fails.
func (m *manager) refreshWrapper(ctx context.Context, e *Engine) {
	if !e.Wrapped {
		return
	}
	if err := m.installWrapper(ctx); err != nil {
		m.Log.Debug("the OCI runtime wrapper was not renewed", "err", err)
	}
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

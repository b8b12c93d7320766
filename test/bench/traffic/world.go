package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// world is the server that does nothing, and room for files.
type world struct {
	options
	doors  doors
	folder string
	server *exec.Cmd
	hold   io.Closer // the server lives until it is closed
	turns  int
}

func openWorld(ctx context.Context, o options) (*world, error) {
	folder, err := os.MkdirTemp("", "bench-traffic-")
	if err != nil {
		return nil, fmt.Errorf("make room for files: %w", err)
	}
	w := &world{options: o, folder: folder}
	if err := w.openServer(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return w, nil
}

func (w *world) openServer(ctx context.Context) error {
	cmd, err := child(ctx, roleServer, "")
	if err != nil {
		return err
	}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	w.server, w.hold = cmd, hold
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &w.doors)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("hear from the server: %w", err), hold.Close(), cmd.Wait())
	}
	return nil
}

func (w *world) close() error {
	return errors.Join(w.hold.Close(), w.server.Wait(), os.RemoveAll(w.folder))
}

// child is this program in a role.
func child(ctx context.Context, role, task string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), envRole+"="+role, envTask+"="+task)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

// used is what a process took of the machine.
type used struct {
	CPU float64 `json:"cpuSeconds"`
}

// finish runs a program to its end.
func finish(cmd *exec.Cmd) (out []byte, u used, err error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	if err := cmd.Run(); err != nil {
		return nil, u, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, stderr.String())
	}
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return stdout.Bytes(), u, nil
}

// send has a process of its own send.
func (w *world) send(ctx context.Context, name string, t sending) (sent, used, error) {
	w.turns++
	t.Doors, t.Folder = w.doors, w.folder
	if w.profiles != "" {
		t.Profile = filepath.Join(w.profiles, fmt.Sprintf("%s-%d", name, w.turns))
	}
	task, err := json.Marshal(t)
	if err != nil {
		return sent{}, used{}, fmt.Errorf("write a sender's task: %w", err)
	}
	cmd, err := child(ctx, roleSender, string(task))
	if err != nil {
		return sent{}, used{}, err
	}
	out, u, err := finish(cmd)
	if err != nil {
		return sent{}, u, err
	}
	var s sent
	if err := json.Unmarshal(out, &s); err != nil {
		return sent{}, u, fmt.Errorf("read what a sender says: %w", err)
	}
	return s, u, nil
}

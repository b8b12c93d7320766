package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/generatedlog"
)

// imported is what an import took.
type imported struct {
	Lines    int64         `json:"lines"`
	Requests int64         `json:"requests"`
	Took     time.Duration `json:"tookNs"` // from the program's start to its end
	// Start is the most that was resident before lines were read: for a moment,
	// all that the start of meshsim touches.
	Start int64 `json:"residentAtStartBytes"`
	residence
}

// underWay is how much of a log is read when an import is past its start.
const underWay = 4 << 20

// measureImport has meshsim read a log while it is made.
func measureImport(ctx context.Context, w *world, r *report) error {
	if w.meshsim == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, w.meshsim, "traffic", "import", "-", "--json", "-o", filepath.Join(w.folder, "imported.jsonl.gz"))
	// a pipe of the kernel's, as from a shell
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("make a pipe for the log: %w", err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start meshsim: %w", err)
	}
	i := &importFigures{}
	watchErr := i.feed(strconv.Itoa(cmd.Process.Pid), in, w.plan.lines)
	if err := cmd.Wait(); err != nil {
		return errors.Join(fmt.Errorf("meshsim traffic import: %w\n%s", err, stderr.String()), watchErr)
	}
	i.Took = time.Since(begin)
	i.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	r.Import = i
	return errors.Join(watchErr, json.Unmarshal(stdout.Bytes(), &i.imported))
}

// feed writes a log into a process, and watches what that has in memory.
func (i *importFigures) feed(pid string, in io.WriteCloser, lines int) error {
	log, buffer := generatedlog.New(lines, 8*time.Millisecond), make([]byte, 64<<10)
	out := struct{ io.Writer }{in} // without ReadFrom, which would take a buffer of its own
	_, err := io.CopyBuffer(out, io.LimitReader(log, underWay), buffer)
	start, startErr := sheet.MemoryOf(pid)
	err = errors.Join(err, startErr, sheet.ForgetPeak(pid))
	if err == nil {
		_, err = io.CopyBuffer(out, log, buffer)
	}
	err = errors.Join(err, in.Close())
	i.Start = start.Peak
	for { // until it has ended, and tells no more
		m, gone := sheet.MemoryOf(pid)
		if gone != nil {
			break
		}
		i.residence = residence{Resident: m.Peak, File: m.File}
		time.Sleep(time.Millisecond)
	}
	return err
}

// Command bench-verdict makes run folders of millions of requests and has
// meshsim judge and report them, as a process of its own whose time and memory
// are measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/test/bench/sheet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench-verdict: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	meshsim  string // the program that judges
	json     string // where the figures go, "" for nowhere
	dir      string // where run folders are made
	requests int
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("bench-verdict", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.StringVar(&o.meshsim, "meshsim", "bin/meshsim", "the program that judges")
	flags.StringVar(&o.json, "json", "", "write the figures to this file")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "make the run folders here; they take 3 GB and are removed again")
	flags.IntVar(&o.requests, "requests", 5_000_000, "requests of each run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := os.MkdirTemp(o.dir, "bench-verdict-")
	if err != nil {
		return fmt.Errorf("make a folder for the runs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	r := report{Host: thisHost(), Begun: time.Now().UTC(), Requests: o.requests}
	for _, kind := range kinds() {
		fmt.Fprintf(progress, "%s: making %d requests\n", kind.name, o.requests)
		one, err := measure(ctx, o, kind, filepath.Join(root, kind.name))
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		r.Runs = append(r.Runs, one)
	}
	r.judge()
	if o.json != "" {
		if err := sheet.WriteJSON(o.json, r); err != nil {
			return err
		}
	}
	return r.table(out)
}

// kind is one kind of run.
type kind struct {
	name   string
	with   synthetic.Options
	ending int // exit code of its verdict
}

// kinds are a run whose budgets are the shipped scenario's, one that fails
// often, and one whose budgets look at every hop.
func kinds() []kind {
	hops := []string{
		"failed calls = 0 of service payment-gateway", "call latency p99 < 500ms of caller product-catalog in soak",
		"failed requests = 0 shown to 99% of service customer-profile and version v1", "end-to-end p95 < 500ms of route order",
		"recovery within 60s after begin of step restart-vault", "restarts = 0",
	}
	return []kind{
		{"careful", synthetic.Options{Ways: true}, 0},
		{"careless", synthetic.Options{Ways: true, Careless: true}, 1},
		{"hops", synthetic.Options{Ways: true, Budgets: hops}, 3}, // no call goes to the payment gateway
	}
}

func measure(ctx context.Context, o options, k kind, root string) (figures, error) {
	with := k.with
	with.Seed, with.Rate = 1, 200
	with.PerPhase = o.requests / phases
	folder, err := synthetic.Write(root, with)
	if err != nil {
		return figures{}, fmt.Errorf("make the run: %w", err)
	}
	defer os.RemoveAll(root)
	f := figures{Kind: k.name}
	for _, name := range []string{results.RequestsFile, results.EventsFile, results.ProbesFile} {
		info, err := os.Stat(filepath.Join(folder.Path, name))
		if err != nil {
			return f, err
		}
		f.Bytes += info.Size()
	}
	return f, judgeRun(ctx, o, k, folder, &f)
}

// phases of the shipped scenarios.
const phases = 6

// judgeRun has the run judged and reported, and reads what that took.
func judgeRun(ctx context.Context, o options, k kind, folder *results.Folder, f *figures) error {
	judge := exec.CommandContext(ctx, o.meshsim, "report", folder.Path)
	judge.Stderr = os.Stderr
	begun := time.Now()
	if err := judge.Start(); err != nil {
		return fmt.Errorf("judge the run: %w", err)
	}
	memory := watchPeak(judge.Process.Pid)
	err := judge.Wait()
	f.Seconds = time.Since(begun).Seconds()
	f.PeakBytes = memory.end()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return fmt.Errorf("judge the run: %w", err)
	}
	if code := judge.ProcessState.ExitCode(); code != k.ending {
		return fmt.Errorf("the verdict's exit code is %d, not %d", code, k.ending)
	}
	if f.PeakBytes == 0 {
		return errors.New("this system does not tell the memory of a process")
	}
	f.CPUSeconds = (judge.ProcessState.UserTime() + judge.ProcessState.SystemTime()).Seconds()
	v, err := folder.ReadVerdict()
	if err != nil {
		return err
	}
	f.Requests, f.Failed = v.Requests.Total, v.Requests.Failed
	if want := int64(o.requests / phases); f.Requests < want {
		return fmt.Errorf("only %d requests were judged", f.Requests)
	}
	return nil
}

// peak follows the most memory that a process ever had resident, 0 while it is
// not told. What a parent is told of a child that has ended counts the parent's
// own memory, from before the exec.
type peak struct {
	bytes      atomic.Int64
	stop, done chan struct{}
}

func watchPeak(pid int) *peak {
	p := &peak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			if m, err := sheet.MemoryOf(strconv.Itoa(pid)); err == nil {
				p.bytes.Store(max(p.bytes.Load(), m.Peak))
			}
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

func (p *peak) end() int64 {
	close(p.stop)
	<-p.done
	return p.bytes.Load()
}

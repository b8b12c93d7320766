package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
)

// Names of the files in a run folder.
const (
	RunFile      = "run.json"
	RequestsFile = "requests.jsonl"
	EventsFile   = "events.jsonl"
	ProbesFile   = "probes.jsonl"
	VerdictFile  = "verdict.json"
	HTMLFile     = "report.html"
	MarkdownFile = "report.md"
	JUnitFile    = "junit.xml"
)

// ErrReadOnly is returned when something is added to a folder that was opened
// for reading.
var ErrReadOnly = errors.New("the run folder was opened for reading")

// Folder is one run's folder. Its Add methods may be called from several
// goroutines.
type Folder struct {
	Path string
	ID   string

	requests, events, probes *lineWriter // nil when opened for reading

	mu  sync.Mutex
	run *Run // last one written
}

// NewID returns a run id that sorts by time: UTC time stamp and scenario.
func NewID(at time.Time, scenario string) string {
	return at.UTC().Format("20060102T150405Z") + "-" + scenario
}

// CheckRoot makes root, the folder of runs, where it is missing, and finds out
// whether runs can be made in it. The error is a fault.Invalid.
func CheckRoot(root string) error {
	const mend = "name a folder that can be written with --runs"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fault.NewInvalid(fmt.Errorf("make the folder of runs: %w", err), mend)
	}
	trial, err := os.MkdirTemp(root, ".trial-")
	if err != nil {
		return fault.NewInvalid(fmt.Errorf("write into the folder of runs: %w", err), mend)
	}
	return os.Remove(trial)
}

// Create makes a new run folder below root. It is an error when it is there
// already, so that no run ever writes into another one.
func Create(root, id string) (*Folder, error) {
	if id == "" || id != filepath.Base(id) {
		return nil, fmt.Errorf("run id %q is not a plain folder name", id)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of runs: %w", err)
	}
	path := filepath.Join(root, id)
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make the run folder: %w", err)
	}
	f := &Folder{Path: path, ID: id}
	for _, file := range []struct {
		name string
		to   **lineWriter
	}{{RequestsFile, &f.requests}, {EventsFile, &f.events}, {ProbesFile, &f.probes}} {
		w, err := newLineWriter(filepath.Join(path, file.name), time.Second)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		*file.to = w
	}
	return f, nil
}

// Open opens a run folder for reading and judging. It need not be complete,
// but run.json must be there, whole or cut off.
func Open(path string) (*Folder, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find run folder %s: %w", path, err)
	}
	f := &Folder{Path: abs, ID: filepath.Base(abs)}
	if _, err := f.Run(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s is not a run folder: it has no %s", path, RunFile)
		}
		return nil, fault.NewInvalid(err, "name a folder below results/runs")
	}
	return f, nil
}

// Latest returns the path of the newest run folder below root.
func Latest(root string) (string, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fault.NewInvalid(fmt.Errorf("list runs: %w", err), "name the folder that they are in with --runs")
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() > entries[j].Name() })
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		if _, err := os.Stat(filepath.Join(path, RunFile)); err == nil {
			return path, nil
		}
	}
	return "", fault.NewInvalid(fmt.Errorf("there is no run below %s yet", root), "meshsim run mtls-rollout makes one")
}

// WriteRun writes run.json, atomically and as often as wanted. It fills in
// Recorded.
func (f *Folder) WriteRun(r Run) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeRun(r)
}

func (f *Folder) writeRun(r Run) error {
	if f.requests != nil {
		r.Recorded = Recorded{f.requests.lines(), f.events.lines(), f.probes.lines()}
	}
	if err := f.writeJSON(RunFile, r); err != nil {
		return err
	}
	f.run = &r
	return nil
}

// AddRequest appends one request.
func (f *Folder) AddRequest(r Request) error { return f.requests.addRequest(&r) }

// AddEvent appends one event.
func (f *Folder) AddEvent(e Event) error { return f.events.add(e) }

// AddProbe appends one observation.
func (f *Folder) AddProbe(p Probe) error { return f.probes.add(p) }

// flush brings what was added so far to the files, so that it can be read.
func (f *Folder) flush() error {
	return errors.Join(f.requests.flush(), f.events.flush(), f.probes.flush())
}

// Close flushes everything and stamps the number of lines into run.json, so
// that a later loss is noticed. It returns the first error that any writing
// met. Closing twice does nothing more.
func (f *Folder) Close() error {
	var problems []error
	wrote := false
	for _, w := range []*lineWriter{f.requests, f.events, f.probes} {
		if w != nil {
			wrote = true
			problems = append(problems, w.close())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if wrote && f.run != nil {
		problems = append(problems, f.writeRun(*f.run))
	}
	return errors.Join(problems...)
}

// WriteVerdict writes verdict.json.
func (f *Folder) WriteVerdict(v Verdict) error { return f.writeJSON(VerdictFile, v) }

// ReadVerdict reads the verdict that was written last.
func (f *Folder) ReadVerdict() (Verdict, error) {
	var v Verdict
	return v, f.readJSON(VerdictFile, &v)
}

// WriteReport writes one of the report files by its name.
func (f *Folder) WriteReport(name string, content []byte) error {
	return writeAtomic(filepath.Join(f.Path, name), content)
}

// Run reads run.json. One that was cut off is read as far as it goes, and says
// so in Cut.
func (f *Folder) Run() (Run, error) {
	var r Run
	path := filepath.Join(f.Path, RunFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read %s: %w", RunFile, err)
	}
	whole, cut := mend(raw)
	if err := json.Unmarshal(whole, &r); err != nil {
		return Run{}, fmt.Errorf("%s:%d: %w", path, lineOf(whole, err), err)
	}
	r.Cut = cut
	return r, nil
}

func (f *Folder) writeJSON(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return writeAtomic(filepath.Join(f.Path, name), append(raw, '\n'))
}

func (f *Folder) readJSON(name string, into any) error {
	path := filepath.Join(f.Path, name)
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s:%d: %w", path, lineOf(raw, err), err)
	}
	return nil
}

// lineOf returns the line that a JSON error is on, 1 when it does not say.
func lineOf(raw []byte, err error) int {
	offset := int64(0)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	offset = min(offset, int64(len(raw)))
	return 1 + strings.Count(string(raw[:offset]), "\n")
}

// writeAtomic replaces path in one step, so that a reader or a crash never
// meets half a file.
func writeAtomic(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

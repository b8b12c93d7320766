// Package history keeps what run folders concluded in one SQLite file beside
// them, so that a trend over many runs is read at once. The folders are the
// truth: the file is made from them, brought up to date at each opening, and may
// be deleted at any time.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
)

// File is the history's name in the folder of runs.
const File = "history.db"

// version is of the tables below; a file of another one is made anew.
const version = 3

const tables = `
CREATE TABLE runs (
	id TEXT PRIMARY KEY, stamp INTEGER NOT NULL, scenario TEXT NOT NULL, mesh TEXT NOT NULL, topology TEXT NOT NULL, tool TEXT NOT NULL,
	started INTEGER NOT NULL, seconds REAL NOT NULL, verdict TEXT NOT NULL, requests INTEGER NOT NULL, failed INTEGER NOT NULL, late INTEGER NOT NULL,
	worst_p99_ms REAL NOT NULL, judge INTEGER NOT NULL, day INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_time ON runs (scenario, started);
CREATE TABLE budgets (
	run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, place INTEGER NOT NULL, text TEXT NOT NULL, phase TEXT NOT NULL, verdict TEXT NOT NULL,
	unit TEXT, value REAL, low REAL, high REAL, budget REAL,
	PRIMARY KEY (run, place)
) STRICT;
CREATE TABLE causes (
	run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, kind TEXT NOT NULL, count INTEGER NOT NULL,
	PRIMARY KEY (run, kind)
) STRICT;
`

// Judge concludes from a run folder that has no verdict yet, whose record is newer
// than its verdict, or whose verdict is by other rules than the judge's.
type Judge struct {
	Rules int // as its verdicts say
	Judge func(*results.Folder) (results.Verdict, error)
}

// History is an opened history.
type History struct {
	db    *sql.DB
	root  string
	judge Judge
	log   *slog.Logger
}

// Open opens the history of the runs below root and brings it up to date with
// the folders: new and newer ones are read, those judged by other rules are judged
// again, and those that are gone are forgotten. A file that is missing, damaged or
// of another version is made anew. A root that cannot be read is a fault.Invalid.
func Open(ctx context.Context, root string, judge Judge, log *slog.Logger) (*History, error) {
	if _, err := os.ReadDir(root); err != nil {
		return nil, fault.NewInvalid(fmt.Errorf("list runs: %w", err), "name the folder that they are in with --runs, or make one with meshsim run mtls-rollout")
	}
	h, err := open(ctx, root, judge, log)
	if err == nil {
		if err = h.update(ctx); err == nil {
			return h, nil
		}
		err = errors.Join(err, h.Close())
	}
	if ctx.Err() != nil {
		return nil, err
	}
	log.Info("the history cannot be used and is made anew", "file", filepath.Join(root, File), "error", err)
	for _, end := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(filepath.Join(root, File+end)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove the unusable history: %w", err)
		}
	}
	if h, err = open(ctx, root, judge, log); err != nil {
		return nil, err
	}
	if err := h.update(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func open(ctx context.Context, root string, judge Judge, log *slog.Logger) (*History, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(root, File)+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	db.SetMaxOpenConns(1)
	h := &History{db: db, root: root, judge: judge, log: log}
	if err := h.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return h, nil
}

// prepare makes the tables in an empty file.
func (h *History) prepare(ctx context.Context) error {
	var found, has int
	if err := h.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&found); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	if err := h.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&has); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	switch {
	case found == version:
		return nil
	case has > 0:
		return fmt.Errorf("the history is of version %d, not %d", found, version)
	}
	if _, err := h.db.ExecContext(ctx, tables+fmt.Sprintf("PRAGMA user_version = %d;", version)); err != nil {
		return fmt.Errorf("make the history's tables: %w", err)
	}
	return nil
}

// Close closes the file.
func (h *History) Close() error { return h.db.Close() }

// update brings the tables up to date with the folders.
func (h *History) update(ctx context.Context) error {
	known, err := h.stamps(ctx)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(h.root)
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(h.root, e.Name())
		written, ok := writtenAt(path)
		if !ok {
			continue
		}
		was, there := known[e.Name()]
		delete(known, e.Name())
		now := stamp{written, h.judge.Rules}
		if there && was == now {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.take(ctx, path, now); err != nil {
			return err
		}
	}
	for gone := range known {
		if _, err := h.db.ExecContext(ctx, "DELETE FROM runs WHERE id = ?", gone); err != nil {
			return fmt.Errorf("forget run %s: %w", gone, err)
		}
	}
	return nil
}

func (h *History) stamps(ctx context.Context) (map[string]stamp, error) {
	rows, err := h.db.QueryContext(ctx, "SELECT id, stamp, judge FROM runs")
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer rows.Close()
	known := map[string]stamp{}
	for rows.Next() {
		var id string
		var s stamp
		if err := rows.Scan(&id, &s.written, &s.judge); err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		known[id] = s
	}
	return known, rows.Err()
}

// stamp is what a run was read at.
type stamp struct {
	written int64 // when the folder was last written to
	judge   int   // whose rules it was judged by
}

// writtenAt tells when a run folder was last written to, by its latest file; ok is
// false for what is no run folder.
func writtenAt(path string) (written int64, ok bool) {
	for _, name := range []string{results.RunFile, results.VerdictFile, results.RequestsFile, results.EventsFile, results.ProbesFile} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			if name == results.RunFile {
				return 0, false
			}
			continue
		}
		written = max(written, info.ModTime().UnixNano())
	}
	return written, true
}

// take reads one folder into the tables. One that cannot be read is left out,
// with a warning: the others are still worth their trend.
func (h *History) take(ctx context.Context, path string, at stamp) error {
	run, v, err := h.read(path)
	if err != nil {
		h.log.Warn("a run is left out of the history", "run", path, "error", err)
		return nil
	}
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	if err := write(ctx, tx, filepath.Base(path), at, run, v); err != nil {
		return errors.Join(fmt.Errorf("write run %s into the history: %w", filepath.Base(path), err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// read takes the verdict that is in the folder, or judges it where there is none
// by the same rules that is as new as the record.
func (h *History) read(path string) (results.Run, results.Verdict, error) {
	folder, err := results.Open(path)
	if err != nil {
		return results.Run{}, results.Verdict{}, err
	}
	run, err := folder.Run()
	if err != nil {
		return results.Run{}, results.Verdict{}, err
	}
	if fresh(path) {
		if v, err := folder.ReadVerdict(); err == nil && v.Judge == h.judge.Rules {
			return run, v, nil
		}
	}
	v, err := h.judge.Judge(folder)
	return run, v, err
}

// fresh tells whether the verdict is as new as what it was concluded from.
func fresh(path string) bool {
	verdict, err := os.Stat(filepath.Join(path, results.VerdictFile))
	if err != nil {
		return false
	}
	for _, name := range []string{results.RunFile, results.RequestsFile, results.EventsFile, results.ProbesFile} {
		if info, err := os.Stat(filepath.Join(path, name)); err == nil && info.ModTime().After(verdict.ModTime()) {
			return false
		}
	}
	return true
}

func write(ctx context.Context, tx *sql.Tx, id string, at stamp, run results.Run, v results.Verdict) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM runs WHERE id = ?", id); err != nil {
		return err
	}
	seconds, worst := 0.0, 0.0
	if run.Ended() {
		seconds = run.EndedAt.Sub(run.StartedAt).Round(time.Millisecond).Seconds()
	}
	for _, p := range v.Phases {
		if p.Judged {
			worst = max(worst, p.P99Ms)
		}
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", id, at.written, v.Scenario, v.Mesh, run.Topology, run.Tool,
		run.StartedAt.UnixMilli(), seconds, string(v.Verdict), v.Requests.Total, v.Requests.Failed, v.Requests.Late, worst, at.judge, int64(run.Traffic.DayLasts())); err != nil {
		return err
	}
	for i, b := range v.Budgets {
		var unit, value, low, high, limit any
		if f := b.Figure; f != nil {
			unit, value, limit = f.Unit, f.Value, f.Limit
			if f.Low != nil {
				low = *f.Low
			}
			if f.High != nil {
				high = *f.High
			}
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO budgets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			id, i, b.Text, b.Phase, string(b.Verdict), unit, value, low, high, limit); err != nil {
			return err
		}
	}
	kinds := map[string]int64{}
	for _, c := range v.Causes {
		kinds[c.Kind] += c.Count
	}
	for kind, n := range kinds {
		if _, err := tx.ExecContext(ctx, "INSERT INTO causes VALUES (?, ?, ?)", id, kind, n); err != nil {
			return err
		}
	}
	return nil
}

package history

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"meshsim.dev/meshsim/results"
)

// Query says which runs are wanted.
type Query struct {
	Scenario string // "" for all
	Last     int    // so many, the newest; 0 for all
}

// Run is one run of the history.
type Run struct {
	ID         string            `json:"run"`
	Scenario   string            `json:"scenario"`
	Mesh       string            `json:"mesh"`
	Topology   string            `json:"topology"`
	Tool       string            `json:"tool"`
	Day        time.Duration     `json:"dayNs"` // how long one lasted, 0 where that is not known
	Started    time.Time         `json:"startedAt"`
	Seconds    float64           `json:"seconds"` // 0 for a run that was cut off
	Verdict    results.Judgement `json:"verdict"`
	Requests   int64             `json:"requests"`
	Failed     int64             `json:"failed"`
	Late       int64             `json:"late"`
	WorstP99Ms float64           `json:"worstP99Ms"` // of the judged phases
	Budgets    []Budget          `json:"budgets"`
	Causes     []Cause           `json:"causes"`
}

// Budget is one budget of a run; the numbers are absent where it has none.
type Budget struct {
	Text    string            `json:"text"`
	Phase   string            `json:"phase"`
	Verdict results.Judgement `json:"verdict"`
	Unit    string            `json:"unit,omitempty"`
	Value   *float64          `json:"value,omitempty"`
	Low     *float64          `json:"low,omitempty"`
	High    *float64          `json:"high,omitempty"`
	Limit   *float64          `json:"limit,omitempty"`
}

// Cause counts the failures of one kind.
type Cause struct {
	Kind  string `json:"kind"`
	Count int64  `json:"count"`
}

// Runs returns the wanted runs, the oldest first.
func (h *History) Runs(ctx context.Context, q Query) ([]Run, error) {
	last := q.Last
	if last <= 0 {
		last = -1 // which is no limit
	}
	rows, err := h.db.QueryContext(ctx, `SELECT * FROM (
		SELECT id, scenario, mesh, topology, tool, started, seconds, verdict, requests, failed, late, worst_p99_ms, day FROM runs
		WHERE ? = '' OR scenario = ? ORDER BY started DESC, id DESC LIMIT ?) ORDER BY started, id`, q.Scenario, q.Scenario, last)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer rows.Close()
	all := []Run{}
	for rows.Next() {
		r, started := Run{Budgets: []Budget{}, Causes: []Cause{}}, int64(0)
		if err := rows.Scan(&r.ID, &r.Scenario, &r.Mesh, &r.Topology, &r.Tool, &started, &r.Seconds, &r.Verdict, &r.Requests, &r.Failed, &r.Late, &r.WorstP99Ms, &r.Day); err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		r.Started = time.UnixMilli(started).UTC()
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	for i := range all {
		if err := h.details(ctx, &all[i]); err != nil {
			return nil, fmt.Errorf("read run %s of the history: %w", all[i].ID, err)
		}
	}
	return all, nil
}

func (h *History) details(ctx context.Context, r *Run) error {
	rows, err := h.db.QueryContext(ctx, "SELECT text, phase, verdict, unit, value, low, high, budget FROM budgets WHERE run = ? ORDER BY place", r.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b Budget
		var unit sql.NullString
		if err := rows.Scan(&b.Text, &b.Phase, &b.Verdict, &unit, &b.Value, &b.Low, &b.High, &b.Limit); err != nil {
			return err
		}
		b.Unit = unit.String
		r.Budgets = append(r.Budgets, b)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	causes, err := h.db.QueryContext(ctx, "SELECT kind, count FROM causes WHERE run = ? ORDER BY count DESC, kind", r.ID)
	if err != nil {
		return err
	}
	defer causes.Close()
	for causes.Next() {
		var c Cause
		if err := causes.Scan(&c.Kind, &c.Count); err != nil {
			return err
		}
		r.Causes = append(r.Causes, c)
	}
	return causes.Err()
}

// Package report shows a judged run to people and to CI: a self-contained page,
// Markdown for a pull request, a summary for the terminal, and JUnit. It draws
// only from what it is given and judges nothing.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// Data is one judged run.
type Data struct {
	Run     results.Run
	Verdict results.Verdict
	Events  []results.Event // steps are drawn from these
	// Checks are what Linkerd's own command said, Leaves when the proxies'
	// certificates end; nothing where that was not looked at.
	Checks []results.LinkerdCheck `json:",omitempty"`
	Leaves *results.Leaves        `json:",omitempty"`
	Ledger *results.Ledger        `json:",omitempty"` // what became of the orders
	// Open says which ports let anyone in without mTLS, by design.
	Open string `json:",omitempty"`
	// Rotation is how old what Vault keeps is, Rotated what step rotate-secrets had
	// renewed last, Audit Vault's own account of its use, Webhooks the API server's of
	// theirs, one a phase.
	Rotation *results.VaultRotation  `json:",omitempty"`
	Rotated  *results.SecretsRotated `json:",omitempty"`
	Audit    *results.VaultAudit     `json:",omitempty"`
	Webhooks []results.Webhooks      `json:",omitempty"`
	// What the probes saw between services, of the twins and of certificates,
	// boiled down: samples stay in the record.
	Matrices     []Matrix      `json:",omitempty"`
	Host         []PhaseLoad   `json:",omitempty"`
	Added        []Added       `json:",omitempty"`
	Certificates []Certificate `json:",omitempty"`
}

// PhaseLoad is how busy the host was in a phase.
type PhaseLoad struct {
	Phase string
	results.HostLoad
}

// Write writes the verdict and every report file into the run's folder.
func Write(f *results.Folder, v results.Verdict) error {
	d, err := From(f, v)
	if err != nil {
		return err
	}
	if err := f.WriteVerdict(v); err != nil {
		return err
	}
	for _, file := range []struct {
		name   string
		render func(io.Writer, Data) error
	}{{results.HTMLFile, HTML}, {results.MarkdownFile, Markdown}, {results.JUnitFile, JUnit}} {
		var b bytes.Buffer
		if err := file.render(&b, d); err != nil {
			return fmt.Errorf("render %s: %w", file.name, err)
		}
		if err := f.WriteReport(file.name, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// From gathers what the reports show of the run in f.
func From(f *results.Folder, v results.Verdict) (Data, error) {
	run, err := f.Run()
	if err != nil {
		return Data{}, err
	}
	events, _, err := f.Events()
	if err != nil {
		return Data{}, err
	}
	d := Data{Run: run, Verdict: v, Events: events}
	probes, _, err := f.Probes()
	if err != nil {
		return Data{}, err
	}
	for _, p := range probes {
		if err := d.addProbe(p); err != nil {
			return Data{}, fmt.Errorf("probe %s: %w", p.Probe, err)
		}
	}
	return d, nil
}

// addProbe takes what the page shows of an observation.
func (d *Data) addProbe(p results.Probe) error {
	if p.Probe == results.ProbeLeaves { // the last look's alone
		d.Leaves = nil
		d.Certificates = slices.DeleteFunc(d.Certificates, func(c Certificate) bool { return c.Name == firstLeaf })
	}
	if seen := certificatesOf(p); len(seen) > 0 {
		d.Certificates = newest(d.Certificates, seen)
	}
	switch p.Probe {
	case results.ProbeLinkerdCheck:
		var seen results.LinkerdCheck
		if err := json.Unmarshal(p.Data, &seen); err != nil {
			return err
		}
		seen.Reports = nil // they stay in the record
		d.Checks = append(d.Checks, seen)
	case results.ProbePlaintext:
		var seen results.Plaintext
		err := json.Unmarshal(p.Data, &seen)
		d.Open = seen.OpenText()
		return err
	case results.ProbeLeaves:
		return json.Unmarshal(p.Data, &d.Leaves)
	case results.ProbeLedger:
		return json.Unmarshal(p.Data, &d.Ledger)
	case results.ProbeVaultRotation:
		return json.Unmarshal(p.Data, &d.Rotation)
	case results.ProbeSecretsRotated:
		return json.Unmarshal(p.Data, &d.Rotated)
	case results.ProbeVaultAudit:
		return json.Unmarshal(p.Data, &d.Audit)
	case results.ProbeWebhooks:
		var seen results.Webhooks
		err := json.Unmarshal(p.Data, &seen)
		d.Webhooks = append(d.Webhooks, seen)
		return err
	case results.ProbeAddedLatency:
		a, err := addedOf(p)
		d.Added = append(d.Added, a)
		return err
	case results.ProbeHostLoad:
		seen := PhaseLoad{Phase: p.Phase}
		err := json.Unmarshal(p.Data, &seen.HostLoad)
		d.Host = append(d.Host, seen)
		return err
	case results.ProbeMTLS:
		d.addMatrix(byService(p))
	case results.ProbeWire:
		var seen results.Wire
		err := json.Unmarshal(p.Data, &seen)
		d.matrix(p, matrixEncryption).addWire(seen)
		return err
	case results.ProbeAuthorisation:
		var seen results.Authorisation
		err := json.Unmarshal(p.Data, &seen)
		d.matrix(p, matrixAuthorisation).addAttempts(seen)
		return err
	}
	return nil
}

// matrix finds the matrix of a probe and phase, or makes it.
func (d *Data) matrix(p results.Probe, kind string) *Matrix {
	i := slices.IndexFunc(d.Matrices, func(m Matrix) bool { return m.Probe == p.Probe && m.Phase == p.Phase })
	if i < 0 {
		i = len(d.Matrices)
		d.Matrices = append(d.Matrices, Matrix{Kind: kind, Probe: p.Probe, Phase: p.Phase})
	}
	return &d.Matrices[i]
}

// addMatrix keeps the last matrix of each probe and phase, and the proxies' own
// count only where nothing better is known.
func (d *Data) addMatrix(m Matrix, ok bool) {
	if !ok {
		return
	}
	if i := slices.IndexFunc(d.Matrices, func(o Matrix) bool { return o.Probe == m.Probe && o.Phase == m.Phase }); i >= 0 {
		d.Matrices[i] = m
		return
	}
	d.Matrices = append(d.Matrices, m)
}

// newest keeps of each certificate what was seen last; a renewed one is another.
func newest(all, seen []Certificate) []Certificate {
	for _, c := range seen {
		if i := slices.IndexFunc(all, func(o Certificate) bool { return o.Name == c.Name && o.NotAfter.Equal(c.NotAfter) }); i >= 0 {
			all[i] = c
		} else if len(all) < maxCertificates {
			all = append(all, c)
		}
	}
	return all
}

// budgetGroup is one budget line with its rows, one a phase.
type budgetGroup struct {
	Text    string
	Verdict results.Judgement // the gravest of its rows
	Rows    []results.BudgetVerdict
}

// groups gathers the rows of each budget, in the scenario's order.
func (d Data) groups() []budgetGroup {
	var all []budgetGroup
	for _, b := range d.Verdict.Budgets {
		i := slices.IndexFunc(all, func(g budgetGroup) bool { return g.Text == b.Text })
		if i < 0 {
			all = append(all, budgetGroup{Text: b.Text, Verdict: results.Pass})
			i = len(all) - 1
		}
		all[i].Rows = append(all[i].Rows, b)
		all[i].Verdict = all[i].Verdict.Worse(b.Verdict)
	}
	return all
}

// headline says the verdict's why in a sentence or two.
func (d Data) headline() string {
	v, groups := d.Verdict, d.groups()
	of := func(j results.Judgement) (names []string) {
		for _, g := range groups {
			if g.Verdict == j {
				names = append(names, withoutPhases(g.Text)) // they stand in the table
			}
		}
		return names
	}
	broken, open := of(results.Fail), of(results.Inconclusive)
	switch v.Verdict {
	case results.Pass:
		return fmt.Sprintf("%s. %s sent, %s.", sentence(len(groups), "budget holds", "budgets hold", "All "), requests(v.Requests.Total), failures(v.Requests.Failed))
	case results.Fail:
		text := fmt.Sprintf("%d of %s: %s.", len(broken), sentence(len(groups), "budget is broken", "budgets are broken", ""), strings.Join(broken, "; "))
		if len(v.Causes) > 0 {
			text += " Most failures: " + v.Causes[0].Cause + "."
		}
		return text
	default:
		text := "Nothing is broken, but not everything is shown."
		if len(broken) > 0 {
			text = ""
		}
		if len(open) > 0 {
			text += fmt.Sprintf(" %d of %s: %s.", len(open), sentence(len(groups), "budget is open", "budgets are open", ""), strings.Join(open, "; "))
		}
		if len(v.Reasons) > 0 {
			text += " " + capital(strings.Join(v.Reasons, "; ")) + "."
		}
		return strings.TrimSpace(text)
	}
}

// withoutPhases is a budget's line up to the phases that it names.
func withoutPhases(line string) string {
	b, err := budget.Parse(line)
	if err != nil || len(b.Phases) == 0 {
		return line
	}
	return strings.TrimSuffix(strings.TrimSpace(string([]rune(line)[:b.Phases[0].Column-1])), " in")
}

func sentence(n int, one, many, all string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s%d %s", all, n, many)
}

func requests(n int64) string {
	if n == 1 {
		return "1 request was"
	}
	return count(n) + " requests were"
}

func failures(n int64) string {
	if n == 0 {
		return "none failed"
	}
	return count(n) + " failed"
}

// step is one step of the run, as it is drawn.
type step struct {
	words    string
	from, to int64 // ms since the run's start
	open     bool  // it never ended
	failed   string
}

func (d Data) steps() []step {
	var all []step
	for _, e := range d.Events {
		ms := e.At / int64(time.Millisecond)
		switch e.Kind {
		case results.StepBegin:
			words := e.Detail
			if words == "" {
				words = e.Name
			}
			all = append(all, step{words: words, from: ms, open: true})
		case results.StepEnd:
			words := e.Detail
			if words == "" {
				words = e.Name
			}
			for i := range slices.Backward(all) {
				if all[i].open && all[i].words == words {
					all[i].to, all[i].open, all[i].failed = ms, false, e.Fields[results.FieldError]
					break
				}
			}
		}
	}
	return all
}

// duration is how long the run took, 0 when it is not known.
func (d Data) duration() time.Duration {
	if d.Run.Ended() {
		return d.Run.EndedAt.Sub(d.Run.StartedAt).Round(time.Second)
	}
	return 0
}

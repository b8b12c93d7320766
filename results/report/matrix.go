package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"meshsim.dev/meshsim/results"
)

// Matrix is what was seen, or tried, between every two services.
type Matrix struct {
	Kind    string       `json:"kind"` // encryption | authorisation
	Probe   string       `json:"probe"`
	Phase   string       `json:"phase,omitempty"`
	Callers []string     `json:"callers"`
	Callees []string     `json:"callees"`
	Cells   []MatrixCell `json:"cells"`
}

// MatrixCell is one pair of services.
type MatrixCell struct {
	Caller, Callee string
	State          string   // one of the states below, or the probe's own word
	Bad            bool     // it should not be so
	Details        []string `json:",omitempty"`
}

// Kinds of matrices.
const (
	matrixEncryption    = "encryption"
	matrixAuthorisation = "authorisation"
)

// States of a cell.
const (
	cellEncrypted = "encrypted"
	cellPlaintext = "plaintext"
	cellMixed     = "mixed"
	cellLetIn     = "let in"
	cellRefused   = "refused"
	cellIntruded  = "let in, but may not"
	cellShutOut   = "refused, but may"
)

// maxPairs bounds what a record can make up.
const maxPairs = 4096

// matrixOf reads a matrix from any observation whose data holds a list of pairs:
// objects that name a caller and a callee (or from and to, client and server,
// source and destination). What is said of a pair is read from
//
//   - state, or verdict, outcome, class: a word;
//   - encrypted (or tls) and plaintext (or plain): numbers of calls or flows;
//   - allowed (or may, expected) and admitted (or letIn, accepted, got): whether
//     the caller may come in, and did;
//   - detail, reason, as, identity: words; examples, evidence: lists of words.
//
// Several entries for one pair are joined, the worst one counts.
func matrixOf(p results.Probe) (Matrix, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(p.Data, &fields) != nil {
		return Matrix{}, false
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	m := Matrix{Probe: p.Probe, Phase: p.Phase, Kind: matrixEncryption}
	for _, name := range names {
		var rows []map[string]any
		if json.Unmarshal(fields[name], &rows) != nil {
			continue
		}
		for _, row := range rows[:min(len(rows), maxPairs)] {
			m.add(row)
		}
	}
	if len(m.Cells) == 0 {
		return Matrix{}, false
	}
	slices.SortFunc(m.Cells, func(a, b MatrixCell) int {
		return cmp.Or(strings.Compare(a.Caller, b.Caller), strings.Compare(a.Callee, b.Callee))
	})
	slices.Sort(m.Callers)
	slices.Sort(m.Callees)
	return m, true
}

func (m *Matrix) add(row map[string]any) {
	c := MatrixCell{
		Caller: word(row, "caller", "from", "client", "source"), Callee: word(row, "callee", "to", "server", "destination"),
		State: strings.ToLower(word(row, "state", "verdict", "outcome", "result", "class")),
	}
	if c.Caller == "" || c.Callee == "" {
		return
	}
	may, knownMay := truth(row, "allowed", "may", "expected")
	did, knownDid := truth(row, "admitted", "letIn", "accepted", "got")
	tls, someTLS := number(row, "encrypted", "tls")
	plain, somePlain := number(row, "plaintext", "plain")
	switch {
	case knownDid:
		m.Kind = matrixAuthorisation
		c.State, c.Bad = admission(may, did, knownMay)
	case someTLS || somePlain:
		c.State = encryption(tls, plain)
		c.Bad = plain > 0
		c.Details = append(c.Details, fmt.Sprintf("%s encrypted, %s not", count(int64(tls)), count(int64(plain))))
	case c.State != "":
		c.Bad = c.State == cellPlaintext || c.State == cellMixed || c.State == cellIntruded || c.State == cellShutOut
	default:
		return
	}
	if bad, known := truth(row, "bad", "broken"); known {
		c.Bad = bad
	}
	if text := strings.Join(notEmpty(word(row, "as", "identity"), word(row, "detail", "reason", "error")), ": "); text != "" {
		c.Details = append(c.Details, text)
	}
	c.Details = append(c.Details, words(row, "examples", "evidence")...)
	m.join(c)
}

// join puts a cell into the matrix, or into the one of its pair.
func (m *Matrix) join(c MatrixCell) {
	i := slices.IndexFunc(m.Cells, func(o MatrixCell) bool { return o.Caller == c.Caller && o.Callee == c.Callee })
	if i < 0 {
		m.Cells = append(m.Cells, c)
		for _, side := range []struct {
			to   *[]string
			name string
		}{{&m.Callers, c.Caller}, {&m.Callees, c.Callee}} {
			if !slices.Contains(*side.to, side.name) {
				*side.to = append(*side.to, side.name)
			}
		}
		return
	}
	o := &m.Cells[i]
	switch {
	case c.Bad && !o.Bad:
		o.State, o.Bad = c.State, true
	case c.Bad == o.Bad && c.State != o.State && m.Kind == matrixEncryption:
		o.State = cellMixed
	}
	if room := 12 - len(o.Details); room > 0 {
		o.Details = append(o.Details, c.Details[:min(len(c.Details), room)]...)
	}
}

func admission(may, did, known bool) (state string, bad bool) {
	switch {
	case !known && did:
		return cellLetIn, false
	case !known:
		return cellRefused, false
	case may && did:
		return cellLetIn, false
	case may:
		return cellShutOut, true
	case did:
		return cellIntruded, true
	default:
		return cellRefused, false
	}
}

func encryption(tls, plain float64) string {
	switch {
	case plain == 0:
		return cellEncrypted
	case tls == 0:
		return cellPlaintext
	default:
		return cellMixed
	}
}

// byService is the proxies' own count as a matrix of one caller, for where
// nobody looked at the wire.
func byService(p results.Probe) (Matrix, bool) {
	var seen results.MTLS
	if json.Unmarshal(p.Data, &seen) != nil || len(seen.ByService) == 0 {
		return Matrix{}, false
	}
	m := Matrix{Kind: matrixEncryption, Probe: p.Probe, Phase: seen.Phase, Callers: []string{"all callers"}}
	for service, c := range seen.ByService {
		m.Callees = append(m.Callees, service)
		m.Cells = append(m.Cells, MatrixCell{
			Caller: "all callers", Callee: service, State: encryption(float64(c.TLS), float64(c.Plain)), Bad: c.Plain > 0,
			Details: []string{fmt.Sprintf("%s encrypted, %s not", count(c.TLS), count(c.Plain))},
		})
	}
	slices.Sort(m.Callees)
	slices.SortFunc(m.Cells, func(a, b MatrixCell) int { return strings.Compare(a.Callee, b.Callee) })
	return m, true
}

func word(row map[string]any, keys ...string) string {
	for _, k := range keys {
		if s, ok := row[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

func words(row map[string]any, keys ...string) (all []string) {
	for _, k := range keys {
		list, _ := row[k].([]any)
		for _, v := range list[:min(len(list), 5)] {
			if s, ok := v.(string); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

func truth(row map[string]any, keys ...string) (value, known bool) {
	for _, k := range keys {
		if v, ok := row[k].(bool); ok {
			return v, true
		}
	}
	return false, false
}

func number(row map[string]any, keys ...string) (float64, bool) {
	for _, k := range keys {
		if v, ok := row[k].(float64); ok {
			return v, true
		}
	}
	return 0, false
}

func notEmpty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

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

	// Flows or calls that were seen; Exempt ones may be in the clear, and of Untold
	// ones nothing is known.
	Encrypted, Plaintext, Exempt, Untold int64 `json:",omitempty"`
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
	cellExempt    = "in the clear, as it may be"
	cellUnclear   = "unclear"
)

// maxPairs bounds what a record can make up, maxDetails what is told of a pair.
const (
	maxPairs   = 4096
	maxDetails = 12
)

// addWire adds what a capture saw to the matrix. A flow that may be in the clear
// is told of, and breaks nothing.
func (m *Matrix) addWire(seen results.Wire) {
	for _, f := range seen.Flows {
		c := m.cell(f.Source, f.Destination)
		if c == nil {
			continue
		}
		switch {
		case f.Kind == results.FlowTLS:
			c.Encrypted += f.Count
		case f.Exempt != "":
			c.Exempt += f.Count
			c.tell(fmt.Sprintf("%s may be in the clear: %s", f.Kind, f.Exempt))
		case f.Kind == results.FlowUnknown:
			c.Untold += f.Count
		default:
			c.Plaintext += f.Count
			c.tell(fmt.Sprintf("port %d, %s", f.Port, f.Kind))
			for _, example := range f.Examples {
				c.tell(example)
			}
		}
		c.State, c.Bad = encryption(*c), c.Plaintext > 0
	}
}

// addAttempts adds who got in to the matrix. The worst that happened between two
// counts.
func (m *Matrix) addAttempts(seen results.Authorisation) {
	for _, a := range seen.Attempts {
		c := m.cell(a.Caller, a.Callee)
		if c == nil {
			continue
		}
		state, bad := cellUnclear, false
		if a.Got == results.GotIn || a.Got == results.GotOut {
			state, bad = admission(a.Allowed != nil && *a.Allowed, a.Got == results.GotIn, a.Allowed != nil)
		}
		if c.State == "" || (bad && !c.Bad) || (!c.Bad && a.As == results.AsOwn) {
			c.State, c.Bad = state, bad
		}
		c.tell(strings.Join(notEmpty(a.As, state, a.Detail), ": "))
	}
}

// cell finds the cell of a pair or makes it, nil where there are too many.
func (m *Matrix) cell(caller, callee string) *MatrixCell {
	if caller == "" || callee == "" {
		return nil
	}
	at := func(c MatrixCell) int {
		return cmp.Or(strings.Compare(c.Caller, caller), strings.Compare(c.Callee, callee))
	}
	i, found := slices.BinarySearchFunc(m.Cells, struct{}{}, func(c MatrixCell, _ struct{}) int { return at(c) })
	if found {
		return &m.Cells[i]
	}
	if len(m.Cells) >= maxPairs {
		return nil
	}
	m.Cells = slices.Insert(m.Cells, i, MatrixCell{Caller: caller, Callee: callee})
	m.Callers, m.Callees = withName(m.Callers, caller), withName(m.Callees, callee)
	return &m.Cells[i]
}

// withName puts a name into sorted names.
func withName(names []string, name string) []string {
	i, found := slices.BinarySearch(names, name)
	if found {
		return names
	}
	return slices.Insert(names, i, name)
}

// tell adds a detail, each once.
func (c *MatrixCell) tell(detail string) {
	if detail != "" && len(c.Details) < maxDetails && !slices.Contains(c.Details, detail) {
		c.Details = append(c.Details, detail)
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

func encryption(c MatrixCell) string {
	switch {
	case c.Plaintext > 0 && c.Encrypted > 0:
		return cellMixed
	case c.Plaintext > 0:
		return cellPlaintext
	case c.Encrypted > 0:
		return cellEncrypted
	case c.Exempt > 0:
		return cellExempt
	default:
		return cellUnclear
	}
}

// byService is the proxies' own count as a matrix of one caller, for where
// nobody looked at the wire.
func byService(p results.Probe) (Matrix, bool) {
	var seen results.MTLS
	if json.Unmarshal(p.Data, &seen) != nil || len(seen.ByService) == 0 {
		return Matrix{}, false
	}
	m := Matrix{Kind: matrixEncryption, Probe: p.Probe, Phase: seen.Phase}
	for service, n := range seen.ByService {
		c := m.cell("all callers", service)
		if c == nil {
			continue
		}
		c.Encrypted, c.Plaintext, c.Bad = n.TLS, n.Plain, n.Plain > 0
		c.State = encryption(*c)
	}
	return m, true
}

func notEmpty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

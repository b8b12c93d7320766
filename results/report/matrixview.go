package report

import (
	"fmt"
	"strings"
)

// matrixView is a matrix as a table: a row a caller, a column a callee.
type matrixView struct {
	Title, Beneath string
	Callees        []string
	Rows           []matrixRow
	Bad            []MatrixCell // those that should not be so, with their details
	Legend         []matrixSign
}

type matrixRow struct {
	Caller string
	Cells  []matrixSign
}

// matrixSign is a cell as a sign, which is told apart without colour too.
type matrixSign struct{ Sign, Class, Words, Title string }

func newMatrixView(m Matrix) matrixView {
	v := matrixView{Title: "Encryption between services", Callees: m.Callees}
	if m.Kind == matrixAuthorisation {
		v.Title = "Who got in"
	}
	v.Beneath = "probe " + m.Probe
	if m.Phase != "" {
		v.Beneath += " in " + m.Phase
	}
	cells := map[[2]string]MatrixCell{}
	seen := map[string]bool{}
	for _, c := range m.Cells {
		cells[[2]string{c.Caller, c.Callee}] = c
		if c.Bad {
			v.Bad = append(v.Bad, c)
		}
	}
	for _, caller := range m.Callers {
		row := matrixRow{Caller: caller}
		for _, callee := range m.Callees {
			s := matrixSign{Sign: "", Class: "none", Words: "nothing seen", Title: caller + " to " + callee + ": nothing seen"}
			if c, ok := cells[[2]string{caller, callee}]; ok {
				s = signOf(c)
				if !seen[s.Class+s.Words] {
					seen[s.Class+s.Words] = true
					v.Legend = append(v.Legend, s)
				}
			}
			row.Cells = append(row.Cells, s)
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

func signOf(c MatrixCell) matrixSign {
	s := matrixSign{Sign: "?", Class: "odd", Words: c.State}
	switch c.State {
	case cellEncrypted, cellLetIn:
		s.Sign, s.Class = "✓", "good"
	case cellRefused:
		s.Sign, s.Class = "–", "shut"
	case cellExempt:
		s.Sign, s.Class = "○", "shut"
	case cellMixed:
		s.Sign, s.Class = "◐", "bad"
	case cellPlaintext, cellIntruded:
		s.Sign, s.Class = "✗", "bad"
	case cellShutOut:
		s.Sign, s.Class = "⊘", "bad"
	}
	if c.Bad && s.Class != "bad" {
		s.Sign, s.Class = "✗", "bad"
	}
	s.Title = c.Caller + " to " + c.Callee + ": " + c.State
	if seen := c.Encrypted + c.Plaintext + c.Untold; seen > 0 {
		s.Title += fmt.Sprintf(", %s encrypted of %s", count(c.Encrypted), count(seen))
	}
	if len(c.Details) > 0 {
		s.Title += " (" + strings.Join(c.Details[:min(len(c.Details), 3)], "; ") + ")"
	}
	return s
}

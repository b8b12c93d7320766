package wire

import (
	"fmt"
	"math/rand/v2"

	"meshsim.dev/meshsim/scenarios"
)

// Part is one agent's part of a schedule: of the arrivals whose lot falls from
// From up to To, each Of-th. Parts of one group with different indices, and
// groups whose ranges do not overlap, have no arrival in common; together they
// have all of theirs.
type Part struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Index int     `json:"index"`
	Of    int     `json:"of"`
}

func (p Part) check() error {
	if !(p.From >= 0 && p.From < p.To && p.To <= 1) || p.Of < 1 || p.Index < 0 || p.Index >= p.Of {
		return fmt.Errorf("there is no part %d of %d from %g to %g", p.Index, p.Of, p.From, p.To)
	}
	return nil
}

// lot gives each arrival of a seed a number from 0 to 1, the same for whoever asks.
func lot(seed, lane, number uint64) float64 {
	// a stream of randomness of its own: senders draw from others
	const lots = 0x6c6f7473
	return rand.New(rand.NewPCG(seed^lots, lane<<48^number)).Float64()
}

// Has tells whether an arrival, by its lane and its number there, belongs to
// the part.
func (p Part) Has(seed, lane, number uint64) bool {
	return p.Index == int(number%uint64(p.Of)) && p.Covers(seed, lane, number)
}

// Covers tells whether an arrival belongs to any agent of the group.
func (p Part) Covers(seed, lane, number uint64) bool {
	if p.From == 0 && p.To == 1 {
		return true
	}
	at := lot(seed, lane, number)
	return at >= p.From && at < p.To
}

// Parts cuts a schedule among groups of agents, in their order; what is left
// when all shares are given is the outer sender's. A group with a rate of its
// own has all of its own schedule.
func Parts(groups []scenarios.Agents) []Part {
	parts := make([]Part, len(groups))
	given := 0.0
	for i, g := range groups {
		parts[i] = Part{From: 0, To: 1, Of: g.Count}
		if g.Share == 0 {
			continue
		}
		parts[i].From = given
		given += g.Share
		if given > 1-1e-9 { // sums of decimal fractions end next to 1
			given = 1
		}
		parts[i].To = given
	}
	return parts
}

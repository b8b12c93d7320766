package verdict

import (
	"fmt"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// ledger judges what the database says about the orders.
func (e *evaluation) ledger(b budget.Budget) finding {
	seen, _, why := lastProbe[results.Ledger](e, results.ProbeLedger, nil)
	if why != "" {
		return missing("", "%s", why)
	}
	var f finding
	var bad []string
	switch b.Subject {
	case budget.OrdersLost:
		bad, f.measured = lostOrDoubled(seen)
	case budget.ItemsOversold:
		bad = seen.Oversold
		f.measured = fmt.Sprintf("%s oversold in %s orders", plural(int64(len(bad)), "item", "items"), count(int64(seen.Acknowledged)))
	default:
		bad = seen.PaymentMismatch
		f.measured = fmt.Sprintf("%s without the right payment of %s", plural(int64(len(bad)), "order", "orders"), count(int64(seen.Acknowledged)))
	}
	f.figure = countOf("orders", int64(len(bad)), b.Count)
	if int64(len(bad)) > b.Count {
		f.verdict, f.evidence, f.firm = results.Fail, firstOf(bad, 10), true
		f.measured += ": " + listed(bad, maxNamed)
		return f
	}
	if why := e.notLookedUp(seen); why != "" {
		return missing("", "%s", why)
	}
	f.verdict = results.Pass
	// Pieces are kept from the shelf while an order is under way, so stock adds up
	// all the same.
	if len(seen.Unsettled) > 0 && b.Subject != budget.ItemsOversold {
		f.verdict, f.evidence = results.Inconclusive, firstOf(seen.Unsettled, 10)
		f.measured += fmt.Sprintf("; %s still under way: %s", plural(int64(len(seen.Unsettled)), "order is", "orders are"), listed(seen.Unsettled, maxNamed))
	}
	if a := seen.Answers; a != nil && len(a.Unasked) > 0 {
		// Either the record lacks requests, or the shop sells by itself.
		f.verdict, f.evidence = results.Inconclusive, append(f.evidence, firstOf(a.Unasked, 10)...)
		f.measured += fmt.Sprintf("; %s that no request in the record asked for: %s",
			plural(int64(len(a.Unasked)), "more is confirmed", "more are confirmed"), listed(a.Unasked, maxNamed))
	}
	return f
}

// lostOrDoubled names the orders of which the customer was told what is not so,
// or which are there more than once.
func lostOrDoubled(seen results.Ledger) (bad []string, measured string) {
	bad = append(append(bad, seen.Lost...), seen.Doubled...)
	measured = fmt.Sprintf("%d lost and %d doubled of %s orders acknowledged", len(seen.Lost), len(seen.Doubled), count(int64(seen.Acknowledged)))
	a := seen.Answers
	if a != nil && a.Refused > 0 {
		for _, id := range a.Contradicted {
			bad = append(bad, id+" (refused, yet confirmed)")
		}
		measured += fmt.Sprintf("; %d confirmed of %s refused", len(a.Contradicted), count(int64(a.Refused)))
	}
	if seen.Ambiguous > 0 {
		measured += fmt.Sprintf("; %d more were left unanswered", seen.Ambiguous)
		if a != nil {
			measured += fmt.Sprintf(" (%d written, %d cancelled, %d absent)", a.AmbiguousWritten, a.AmbiguousCancelled, a.AmbiguousAbsent)
		}
	}
	return bad, measured
}

// notLookedUp says which orders of the record the ledger does not know of. What
// an older record never tells is not missed.
func (e *evaluation) notLookedUp(seen results.Ledger) string {
	if seen.Acknowledged <= 0 {
		return "no acknowledged order was looked up"
	}
	sent := e.tally.told(results.ToldYes)
	if int64(seen.Acknowledged) < sent {
		return fmt.Sprintf("only %s of the %s acknowledged orders were looked up", count(int64(seen.Acknowledged)), count(sent))
	}
	if seen.Answers == nil {
		return ""
	}
	if refused := e.tally.told(results.ToldNo); int64(seen.Answers.Refused) < refused {
		return fmt.Sprintf("only %s of the %s refused orders were looked up", count(int64(seen.Answers.Refused)), count(refused))
	}
	if unsure := e.tally.told(results.ToldUnsure); int64(seen.Ambiguous) < unsure {
		return fmt.Sprintf("only %s of the %s unanswered orders were looked up", count(int64(seen.Ambiguous)), count(unsure))
	}
	return ""
}

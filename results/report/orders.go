package report

import (
	"fmt"
	"strings"

	"meshsim.dev/meshsim/results"
)

// ledgerText says what the database held of the orders, by what the customer was
// told of them.
func ledgerText(l results.Ledger) string {
	parts := []string{
		fmt.Sprintf("%s confirmed in the database", count(int64(l.Written))),
		fmt.Sprintf("%s acknowledged, %s of them lost", count(int64(l.Acknowledged)), count(int64(len(l.Lost)))),
	}
	unanswered := count(int64(l.Ambiguous)) + " left unanswered"
	a := l.Answers
	if a == nil { // an older record
		return strings.Join(append(parts, unanswered), "; ")
	}
	if l.Ambiguous > 0 {
		unanswered += fmt.Sprintf(": %s written, %s cancelled, %s absent",
			count(int64(a.AmbiguousWritten)), count(int64(a.AmbiguousCancelled)), count(int64(a.AmbiguousAbsent)))
	}
	parts = append(parts, fmt.Sprintf("%s refused, %s of them confirmed all the same", count(int64(a.Refused)), count(int64(len(a.Contradicted)))), unanswered)
	if n := len(a.Unasked); n > 0 {
		parts = append(parts, fmt.Sprintf("%s confirmed that no request in the record asked for", count(int64(n))))
	}
	if n := len(l.Unsettled); n > 0 {
		parts = append(parts, fmt.Sprintf("%s still under way", count(int64(n))))
	}
	return strings.Join(parts, "; ")
}

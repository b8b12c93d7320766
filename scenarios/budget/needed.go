package budget

import "math"

// Confidence of every interval and bound that a verdict states.
const Confidence = 0.95

// DefaultAvailability is what a phase must be able to show when no budget says
// otherwise.
const DefaultAvailability = 0.9995

// Needed returns how many requests must be seen in phase before anything about
// it is conclusive: three divided by the share that may fail under the
// strictest availability budget that covers all of it (the rule of three, 95 %).
func Needed(all []Budget, phase string) int {
	strictest := 0.0
	for _, b := range all {
		if b.Subject == Availability && b.Plain() && b.Covers(phase) {
			strictest = max(strictest, b.Ratio)
		}
	}
	if strictest == 0 {
		strictest = DefaultAvailability
	}
	return NeededFor(strictest)
}

// NeededFor returns how many requests without a failure show availability
// (below 1) at 95 % confidence.
func NeededFor(availability float64) int {
	// The tolerance keeps 3/0.0005 from becoming 6001 by rounding.
	return int(math.Ceil(3/(1-availability) - 1e-6))
}

// NeededHere returns how many requests or calls must be seen in phase, or in
// the window where the budget has one (phase ""), before this one budget can
// pass. It is 0 for a budget that is judged from other evidence.
func (b Budget) NeededHere(all []Budget, phase string) int {
	switch b.Subject {
	case Requests, Calls:
		return int(min(b.Count, math.MaxInt32))
	case Availability:
		return NeededFor(b.Ratio)
	case FailedRequests, FailedCalls:
		switch {
		case b.Share:
			return NeededFor(1 - b.Ratio)
		case b.Shown > 0:
			return NeededFor(b.Shown)
		}
		return Needed(all, phase)
	case RejectedRequests, LateRequests:
		if b.Share {
			return NeededFor(1 - b.Ratio)
		}
		return Needed(all, phase)
	case EndToEnd, CallLatency:
		if b.Plain() {
			return max(Needed(all, phase), NeededForQuantile(b.Quantile))
		}
		return NeededForQuantile(b.Quantile)
	case Recovery:
		return CleanRequests
	}
	return 0
}

// NeededForQuantile returns how many independent samples give a quantile an
// upper end at 95 %: with fewer, no sample need lie above it.
func NeededForQuantile(q float64) int {
	return int(math.Ceil(math.Log((1-Confidence)/2)/math.Log(q) - 1e-9))
}

// TriplesNeeded returns how many triples of the twins a percentile of the added
// latency needs: so many samples beyond it that its interval means anything.
func TriplesNeeded(q float64) int {
	return int(math.Ceil(tailSamples/min(q, 1-q) - 1e-6))
}

const tailSamples = 10

// What makes a recovery: for CleanFor no request failed, of CleanRequests at
// least, which at 95 % shows fewer than one failure in ten.
const (
	CleanSeconds  = 10
	CleanRequests = 30
)

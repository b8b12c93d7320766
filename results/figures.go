package results

// Figure is what a budget measured, in Unit, and what it allows.
type Figure struct {
	Unit  string  `json:"unit"` // requests | ratio | ms | s | days | pods | orders | …, "" of a query
	Value float64 `json:"value"`
	// Low and High bound the value at 95 % confidence; absent where the value is
	// a plain count, or where too little was seen for that end.
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
	// Limit is the budget's own number. The value should not be above it, or not
	// below it when AtLeast is set.
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"atLeast,omitempty"`
	// Bad of Of is what the value was counted from: requests or calls that count
	// against the budget, of all it is about. Of is 0 where it is no such count.
	Bad int64 `json:"bad,omitempty"`
	Of  int64 `json:"of,omitempty"`
}

// Margin is how far the worse end of the interval is inside the budget, in the
// figure's unit; below zero when it is outside.
func (f Figure) Margin() float64 {
	if f.AtLeast {
		if f.Low != nil {
			return *f.Low - f.Limit
		}
		return f.Value - f.Limit
	}
	if f.High != nil {
		return f.Limit - *f.High
	}
	return f.Limit - f.Value
}

// CauseRequest is one request that a cause explains.
type CauseRequest struct {
	Seq         uint64  `json:"seq"`
	ScheduledMs float64 `json:"scheduledMs"` // since the run's start
	LatencyMs   float64 `json:"latencyMs"`   // from the scheduled instant
	Phase       string  `json:"phase"`
	Route       string  `json:"route"`
	Status      int     `json:"status"`
	Class       string  `json:"class,omitempty"`
	Hop         string  `json:"hop,omitempty"`
	Pod         string  `json:"pod,omitempty"`
	Error       string  `json:"error,omitempty"`
	// Way is the request's way through the shop, "" when the shop did not tell.
	Way string `json:"way,omitempty"`
	// Near is what happened around it.
	Near []string `json:"near,omitempty"`
}

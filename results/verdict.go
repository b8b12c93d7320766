package results

// Judgement is pass, fail or inconclusive.
type Judgement string

const (
	Pass         Judgement = "pass"
	Fail         Judgement = "fail"
	Inconclusive Judgement = "inconclusive"
)

// Worse returns the graver of two judgements: fail before inconclusive before
// pass.
func (j Judgement) Worse(other Judgement) Judgement {
	for _, grave := range []Judgement{Fail, Inconclusive} {
		if j == grave || other == grave {
			return grave
		}
	}
	return Pass
}

// Verdict is verdict.json. The fields up to Causes stay as they are; what
// follows them may grow.
type Verdict struct {
	Verdict  Judgement       `json:"verdict"`
	Scenario string          `json:"scenario"`
	Run      string          `json:"run"`
	Mesh     string          `json:"mesh"`
	StandIns []string        `json:"standIns"`
	Requests RequestCounts   `json:"requests"`
	Phases   []PhaseFigures  `json:"phases"`
	Budgets  []BudgetVerdict `json:"budgets"`
	Causes   []Cause         `json:"causes"`

	// SlowCauses are why requests that were served took longer than the phase's
	// end-to-end budget allows.
	SlowCauses []Cause `json:"slowCauses,omitempty"`
	// Reasons say why the whole is not a pass although its budgets might be:
	// the run was cut off, a phase saw too few requests.
	Reasons  []string       `json:"reasons,omitempty"`
	Routes   []RouteFigures `json:"routes,omitempty"`
	Timeline Timeline       `json:"timeline"`
	// Judge is the version of the rules that this was concluded by, 0 where it is
	// older than that is written down.
	Judge int `json:"judge,omitempty"`
}

// RequestCounts counts the requests of a run. Late ones left the sender too
// late, whatever came of them; Undispatched ones never left.
type RequestCounts struct {
	Total        int64 `json:"total"`
	Failed       int64 `json:"failed"`
	Late         int64 `json:"late"`
	Rejected     int64 `json:"rejected"`
	Undispatched int64 `json:"undispatched"`
}

// PhaseFigures are one phase's figures. Latencies run from the scheduled
// instant; the Sent ones, kept beside them, from the instant of sending.
type PhaseFigures struct {
	Name     string  `json:"name"`
	Requests int64   `json:"requests"`
	Failed   int64   `json:"failed"`
	P50Ms    float64 `json:"p50Ms"`
	P99Ms    float64 `json:"p99Ms"`

	MaxMs        float64 `json:"maxMs"`
	SentP50Ms    float64 `json:"sentP50Ms"`
	SentP99Ms    float64 `json:"sentP99Ms"`
	Late         int64   `json:"late"`
	Undispatched int64   `json:"undispatched"`
	Judged       bool    `json:"judged"`
	// Needed is how many requests a judged phase must have seen.
	Needed int `json:"needed,omitempty"`
	// BeginMs and EndMs are since the run's start; both 0 when unknown.
	BeginMs int64 `json:"beginMs"`
	EndMs   int64 `json:"endMs"`
}

// BudgetVerdict is one budget judged in one phase (Phase is "" where the
// budget has none).
type BudgetVerdict struct {
	Text     string    `json:"text"`
	Phase    string    `json:"phase"`
	Verdict  Judgement `json:"verdict"`
	Measured string    `json:"measured"`
	Evidence []string  `json:"evidence,omitempty"`
	// Figure is what was measured in numbers, absent where there is none.
	Figure *Figure `json:"figure,omitempty"`
}

// Cause is why a number of requests failed, the most frequent first.
type Cause struct {
	Cause    string   `json:"cause"`
	Count    int64    `json:"count"`
	Evidence []string `json:"evidence"`

	Kind     string   `json:"kind"` // drain, policy, tls, …, unknown
	Phases   []string `json:"phases,omitempty"`
	Steps    []string `json:"steps,omitempty"`
	Services []string `json:"services,omitempty"`
	Pods     []string `json:"pods,omitempty"`
	Mend     string   `json:"mend,omitempty"`
	// FailureMode is the id of what breaks like this in a rollout (docs/report.md
	// lists them), "" when none does.
	FailureMode string `json:"failureMode,omitempty"`
	// Requests are some of those that the cause explains, the first ones.
	Requests []CauseRequest `json:"requests,omitempty"`
}

// RouteFigures are one route's figures over the whole run.
type RouteFigures struct {
	Name     string  `json:"name"`
	Requests int64   `json:"requests"`
	Failed   int64   `json:"failed"`
	P50Ms    float64 `json:"p50Ms"`
	P99Ms    float64 `json:"p99Ms"`
}

// Timeline is the run cut into equal buckets by scheduled instant.
type Timeline struct {
	BucketMs int64    `json:"bucketMs"`
	Buckets  []Bucket `json:"buckets"`
	// HeatMs are the upper edges of the bins that Bucket.Heat counts; the last
	// bin has none.
	HeatMs []float64 `json:"heatMs,omitempty"`
}

// Bucket is one slice of the timeline. Its latencies are 0 when it saw none.
type Bucket struct {
	Requests int64   `json:"requests"`
	Failed   int64   `json:"failed,omitempty"`
	P50Ms    float64 `json:"p50Ms"`
	P99Ms    float64 `json:"p99Ms"`
	// Heat counts the requests of each latency bin, up to the last that has any.
	Heat []int64 `json:"heat,omitempty"`
}

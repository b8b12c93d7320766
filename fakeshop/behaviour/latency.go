package behaviour

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Kinds of a Latency, and what P50 and P99 mean to each.
const (
	Constant    = "constant"    // always P50
	Uniform     = "uniform"     // anything from 0 to twice P50
	Exponential = "exponential" // with P50 in the middle
	Lognormal   = "lognormal"   // through P50 and P99: a long tail
)

// Latency is a distribution of delays.
type Latency struct {
	Kind string   `json:"kind"` // "": none
	P50  Duration `json:"p50"`
	P99  Duration `json:"p99"` // of Lognormal alone
	// Share is the part of the requests that is delayed, 0 to 1; 0 is all.
	Share float64 `json:"share"`
	// Most cuts the tail; 0 is 30 s.
	Most Duration `json:"most"`
}

// mostOf is the longest delay unless another is given.
const mostOf = 30 * time.Second

// Check tells what is wrong with the distribution.
func (l Latency) Check() error {
	switch l.Kind {
	case "":
		if l != (Latency{}) {
			return errors.New("kind is missing")
		}
		return nil
	case Constant, Uniform, Exponential:
		if l.P99 != 0 {
			return fmt.Errorf("%s has no p99", l.Kind)
		}
	case Lognormal:
		if l.P99 < l.P50 {
			return errors.New("lognormal wants p99, not below p50")
		}
	default:
		return fmt.Errorf("kind %q: wants constant, uniform, exponential or lognormal", l.Kind)
	}
	if l.P50 <= 0 || l.Most < 0 {
		return errors.New("p50 and most want a duration such as 5ms")
	}
	if l.Share < 0 || l.Share > 1 {
		return fmt.Errorf("share %v: wants 0 to 1", l.Share)
	}
	return nil
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// Draw returns one delay.
func (l Latency) Draw(rng *rand.Rand) time.Duration {
	if l.Kind == "" || l.Share > 0 && rng.Float64() >= l.Share {
		return 0
	}
	p50 := float64(l.P50)
	d := p50
	switch l.Kind {
	case Uniform:
		d = 2 * p50 * rng.Float64()
	case Exponential:
		d = p50 / math.Ln2 * rng.ExpFloat64()
	case Lognormal:
		d = p50 * math.Exp(rng.NormFloat64()*math.Log(float64(l.P99)/p50)/z99)
	}
	most := time.Duration(l.Most)
	if most == 0 {
		most = mostOf
	}
	return time.Duration(min(d, float64(most)))
}

// Duration is written as text: "5ms".
type Duration time.Duration

// UnmarshalJSON reads "5ms".
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%s is no duration such as \"5ms\"", data)
	}
	v, err := time.ParseDuration(text)
	*d = Duration(v)
	return err
}

// MarshalJSON writes "5ms".
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// Package recording keeps traffic that was seen: when each request came, which
// of the shop's routes it was for and what class of answer it got, and nothing
// else. A recording is a file of JSON lines, gzipped or not: one that says what
// it is, one a request in the order of their times, and one that ends it, so
// that a file that was cut off is known for one.
//
//	{"apiVersion":"meshsim.dev/v1alpha1","kind":"RecordedTraffic","from":"2024-06-11T07:00:00Z"}
//	{"us":0,"route":"browse","class":"2xx"}
//	{"us":41873,"route":"order","class":"4xx"}
//	{"requests":2,"spanUs":41873}
package recording

import (
	"regexp"
	"time"
)

// The first line's apiVersion and kind.
const (
	APIVersion = "meshsim.dev/v1alpha1"
	Kind       = "RecordedTraffic"
)

// Request is one that was seen.
type Request struct {
	At    time.Duration // since the first one, in whole microseconds
	Route string        // of the traffic mix
	Class uint8         // of its answer: 2 for 2xx; 0 when there was none
}

// Longest is how long a recording may span.
const Longest = 10 * 365 * 24 * time.Hour

// mostRoutes is how many a recording may name: far more than the shop has.
const mostRoutes = 64

var routeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

type header struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	From       time.Time `json:"from,omitzero"` // when the first request came
}

type ending struct {
	Requests int64 `json:"requests"`
	SpanUs   int64 `json:"spanUs"` // from the first request to the last
}

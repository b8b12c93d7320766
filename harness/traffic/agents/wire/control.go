package wire

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Port is where an agent listens, on its pod's loopback alone: only who may
// forward a port to the pod can speak to it.
const Port = 4199

// What an agent answers to, all of it HTTP on Port.
const (
	HelloPath    = "/hello"    // GET: Hello
	ClockPath    = "/clock"    // GET: Clock
	StartPath    = "/start"    // POST Start, once
	TimelinePath = "/timeline" // PUT Timeline; 409 when it is too late
	RecordsPath  = "/records"  // GET ?offset=N: frames from that byte of the stream on, until the end
	TakenPath    = "/taken"    // POST ?offset=N: what comes before is no longer needed
	StopPath     = "/stop"     // POST: answers when every request is settled
	LeavePath    = "/leave"    // POST: the agent ends
)

// Hello is who an agent is.
type Hello struct {
	Version int    `json:"version"`
	Run     string `json:"run"`
	Group   string `json:"group"`
	Index   int    `json:"index"`
	Pod     string `json:"pod"`
	Arch    string `json:"arch"` // GOARCH: others may round otherwise, and so draw another schedule
}

// Clock is what an agent's clocks show.
type Clock struct {
	Mono int64 `json:"mono"` // nanoseconds since the agent began
	Wall int64 `json:"wall"` // nanoseconds since 1970
}

// Start begins an agent's schedule.
type Start struct {
	Zero     int64    `json:"zero"` // the schedule's zero, on the agent's Mono
	Timeline Timeline `json:"timeline"`
}

// Summary ends a stream: what the agent has counted itself.
type Summary struct {
	Scheduled    int64 `json:"scheduled"`
	Requests     int64 `json:"requests"` // finished
	Undispatched int64 `json:"undispatched"`
	// Latencies is an HdrHistogram (V2, compressed, base64) of the finished
	// requests' microseconds from their scheduled instants.
	Latencies string `json:"latencies"`
	Error     string `json:"error,omitempty"` // of the sender, never of answers
}

// EncodeHistogram writes a histogram as a Summary has it.
func EncodeHistogram(h *hdrhistogram.Histogram) (string, error) {
	raw, err := h.EncodeV2()
	if err != nil {
		return "", fmt.Errorf("write the histogram: %w", err)
	}
	return string(raw), nil
}

// DecodeHistogram reads what EncodeHistogram wrote.
func DecodeHistogram(text string) (*hdrhistogram.Histogram, error) {
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the histogram: %w", err)
	}
	return h, nil
}

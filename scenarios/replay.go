package scenarios

import (
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/scenarios/shape"
)

// What a replay sends for the routes whose requests have a body.
const (
	BodiesSynthesised = "synthesised" // bodies of its own, as the mix makes them
	BodiesNone        = "none"        // nothing: only GET requests are sent
)

// Replay is recorded traffic that is sent again at the instants it came.
type Replay struct {
	File       string // where the recording is
	Scale      float64
	CompressTo time.Duration // how long the whole recording lasts
	Bodies     string
	Recording  *recording.Summary
}

// Routes returns the routes that are sent, sorted.
func (r *Replay) Routes() []string {
	return slices.DeleteFunc(r.Recording.Names(), func(name string) bool {
		return r.Bodies == BodiesNone && slices.Contains(withBody, name)
	})
}

// shape is the rate that a replay has on average.
func (r *Replay) shape() shape.Shape {
	s := compressTo(r.Recording.Shape(r.Routes()), r.Recording.Period(), r.CompressTo)
	words := fmt.Sprintf("replay of %d recorded requests in %s", r.Recording.Count(r.Routes()), r.CompressTo.Round(time.Millisecond))
	if r.Scale != 1 {
		s, words = shape.Scale(s, r.Scale), fmt.Sprintf("%s, scaled by %.4g", words, r.Scale)
	}
	return shape.Named(s, words)
}

// withBody are the routes whose requests have one.
var withBody = []string{"configure", "order"}

func (r *shapeReader) replay(n *yaml.Node) *Replay {
	replay := &Replay{Scale: 1, Bodies: BodiesSynthesised}
	r.mapping(n, "replay", map[string]field{
		"file":       r.text("file", &replay.File),
		"scale":      r.number("scale", 1000, &replay.Scale),
		"compressTo": r.span("compressTo", time.Second, &replay.CompressTo),
		"bodies":     r.oneOf("bodies", []string{BodiesSynthesised, BodiesNone}, &replay.Bodies),
	}, "file")
	if replay.File == "" {
		return nil
	}
	replay.File = r.path(replay.File)
	sum, ok := r.recording(n, replay.File)
	if !ok {
		return nil
	}
	replay.Recording = sum
	if replay.CompressTo == 0 {
		replay.CompressTo = r.short(sum.Period())
	}
	if len(replay.Routes()) == 0 {
		r.fail(n, "the recording holds only requests with a body (%v), so with bodies: none there is nothing to send", sum.Names())
		return nil
	}
	return replay
}

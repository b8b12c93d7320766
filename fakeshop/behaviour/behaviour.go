// Package behaviour makes a service misbehave by configuration, without another
// image: slow, failing, hungry for memory or leaking it, slow to start. A
// scenario deploys a bad canary or a careless service with it.
package behaviour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakeshop/fail"
)

// Config is how a service behaves; the zero Config is a good one.
type Config struct {
	// Latency is added before each request is worked on.
	Latency Latency `json:"latency"`
	// Errors are answered instead of work.
	Errors Errors `json:"errors"`
	// BallastMiB is memory taken at the start and kept.
	BallastMiB int `json:"ballastMiB"`
	// LeakBytes are lost with each request.
	LeakBytes int `json:"leakBytes"`
	// StartDelay is how long the service is not ready although it could be.
	StartDelay Duration `json:"startDelay"`
	// Warmup is how long, from the first request, requests take longer: the
	// Latency of Cold is added, less and less until Warmup is over.
	Warmup Duration `json:"warmup"`
	Cold   Latency  `json:"cold"`
	// Burn is CPU time that each request costs more than its work.
	Burn Duration `json:"burn"`
	// Seed of what is drawn; the pod's name is mixed in, so that pods differ and
	// a pod of the same name does not.
	Seed uint64 `json:"seed"`
}

// Errors is how often what is answered.
type Errors struct {
	Rate float64 `json:"rate"` // 0 to 1
	Code string  `json:"code"` // of gRPC, as in UNAVAILABLE, which it is when empty
}

// Parse reads a Config from JSON, strictly; everything wrong is told at once.
// No text is the zero Config.
func Parse(text string) (Config, error) {
	var c Config
	if text == "" {
		return c, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("behaviour: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("behaviour: more than one JSON value")
	}
	return c, c.check()
}

func (c Config) check() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf("behaviour: "+format, args...)) }
	if c.Errors.Rate < 0 || c.Errors.Rate > 1 {
		refuse("errors.rate %v: wants 0 to 1", c.Errors.Rate)
	}
	if _, ok := codeOf(c.Errors.Code); !ok {
		refuse("errors.code %q: wants a failure's gRPC code, such as UNAVAILABLE", c.Errors.Code)
	}
	if c.BallastMiB < 0 || c.BallastMiB > 1<<20 {
		refuse("ballastMiB %d: wants 0 to %d", c.BallastMiB, 1<<20)
	}
	if c.LeakBytes < 0 || c.LeakBytes > 1<<30 {
		refuse("leakBytes %d: wants 0 to %d", c.LeakBytes, 1<<30)
	}
	if c.StartDelay < 0 || c.Warmup < 0 {
		refuse("startDelay and warmup: want a duration such as 5s")
	}
	if c.Burn < 0 || c.Burn > Duration(mostBurn) {
		refuse("burn: wants a duration of at most %s", mostBurn)
	}
	if c.Cold.Kind != "" && c.Warmup == 0 {
		refuse("cold: has no effect without warmup")
	}
	for name, l := range map[string]Latency{"latency": c.Latency, "cold": c.Cold} {
		if err := l.Check(); err != nil {
			refuse("%s: %w", name, err)
		}
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(wrong...)
}

// mostBurn is more than a call between services may last.
const mostBurn = 10 * time.Second

// codeOf reads a failure's code by its protocol name; "" is UNAVAILABLE.
func codeOf(name string) (codes.Code, bool) {
	if name == "" {
		return codes.Unavailable, true
	}
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil {
		return 0, false
	}
	return c, fail.IsFailure(c)
}

// Behaviour is a service behaving so.
type Behaviour struct {
	config Config
	code   codes.Code
	now    func() time.Time

	ballast []byte

	mu    sync.Mutex
	rng   *rand.Rand
	first time.Time
	lost  [][]byte
}

// New begins to behave; the ballast is taken now.
func New(c Config, pod string) *Behaviour {
	code, _ := codeOf(c.Errors.Code)
	h := fnv.New64a()
	_, _ = io.WriteString(h, pod)
	b := &Behaviour{config: c, code: code, now: time.Now, rng: rand.New(rand.NewPCG(c.Seed, h.Sum64()))}
	if c.BallastMiB > 0 {
		b.ballast = make([]byte, c.BallastMiB<<20)
		for i := 0; i < len(b.ballast); i += 4096 {
			b.ballast[i] = 1 // so that the kernel really gives the page
		}
	}
	return b
}

// Start waits as long as the service is slow to start, or until ctx ends.
func (b *Behaviour) Start(ctx context.Context) error {
	if b == nil {
		return nil
	}
	return pause.For(ctx, time.Duration(b.config.StartDelay))
}

// Request is called before each request is worked on. It waits, burns and leaks as
// configured, and returns the error to answer with, nil when the request is to
// be worked on. Safe for concurrent use; a nil Behaviour is a good one.
func (b *Behaviour) Request(ctx context.Context) error {
	if b == nil || !b.acts() {
		return nil
	}
	wait, broken := b.draw()
	if err := pause.For(ctx, wait); err != nil {
		return err
	}
	if err := burn(ctx, time.Duration(b.config.Burn)); err != nil {
		return err
	}
	if broken {
		return fail.New(b.code, "", "this service fails by configuration")
	}
	return nil
}

func (b *Behaviour) acts() bool {
	c := &b.config
	return c.Latency.Kind != "" || c.Errors.Rate > 0 || c.LeakBytes > 0 || c.Warmup > 0 || c.Burn > 0
}

// draw decides on one request.
func (b *Behaviour) draw() (wait time.Duration, broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first.IsZero() {
		b.first = b.now()
	}
	wait = b.config.Latency.Draw(b.rng)
	if warm, whole := b.now().Sub(b.first), time.Duration(b.config.Warmup); warm < whole {
		left := 1 - float64(warm)/float64(whole)
		wait += time.Duration(left * float64(b.config.Cold.Draw(b.rng)))
	}
	broken = b.rng.Float64() < b.config.Errors.Rate
	if b.config.LeakBytes > 0 {
		leak := make([]byte, b.config.LeakBytes)
		for i := range leak {
			leak[i] = byte(i)
		}
		b.lost = append(b.lost, leak)
	}
	return wait, broken
}

// Held is the memory that the service holds on to, in bytes: ballast and what
// has leaked.
func (b *Behaviour) Held() (bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.ballast)) + int64(len(b.lost))*int64(b.config.LeakBytes)
}

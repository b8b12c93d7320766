package payments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakeshop/behaviour"
)

// ChargeState is what a provider did.
type ChargeState string

// The states.
const (
	Captured ChargeState = "captured"
	Refused  ChargeState = "declined"
	Voided   ChargeState = "voided" // given back, or never to be captured
)

// Charge is what a provider did under a key.
type Charge struct {
	Key         string
	AmountCents int64
	State       ChargeState
	CardToken   string
}

// Provider moves money. What it did under a key it did once: every later call
// answers with that. An error says that no answer came, and nothing else.
type Provider interface {
	// Charge takes the amount from the card, or declines to.
	Charge(ctx context.Context, c Charge, card string) (Charge, error)
	// Void gives back what was captured, and captures nothing later. What was
	// declined stays so.
	Void(ctx context.Context, key string) (Charge, error)
}

// Book is what the fake provider remembers.
type Book interface {
	// Enter writes a charge unless its key has one, and returns the one that is
	// kept. A void replaces what was captured, and nothing else.
	Enter(ctx context.Context, c Charge) (Charge, error)
}

// ProviderConfig is how the fake provider behaves.
type ProviderConfig struct {
	Latency behaviour.Latency `json:"latency"`
	// DeclineRate is the part of the cards that is declined, 0 to 1, besides
	// those whose reference begins with "declined-".
	DeclineRate float64 `json:"declineRate"`
	// TimeoutRate is the part of the calls that get no answer, and do nothing.
	TimeoutRate float64 `json:"timeoutRate"`
	// LostRate is the part of the calls that get no answer although they were
	// carried out.
	LostRate float64 `json:"lostRate"`
	Seed     uint64  `json:"seed"`
}

// ParseProvider reads a ProviderConfig from JSON, strictly; no text is the zero
// one.
func ParseProvider(text string) (ProviderConfig, error) {
	var c ProviderConfig
	if text == "" {
		return c, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return ProviderConfig{}, fmt.Errorf("payment provider: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ProviderConfig{}, errors.New("payment provider: more than one JSON value")
	}
	var wrong []error
	for _, rate := range []struct {
		name  string
		value float64
	}{{"declineRate", c.DeclineRate}, {"timeoutRate", c.TimeoutRate}, {"lostRate", c.LostRate}} {
		if rate.value < 0 || rate.value > 1 {
			wrong = append(wrong, fmt.Errorf("payment provider: %s %v: wants 0 to 1", rate.name, rate.value))
		}
	}
	if err := c.Latency.Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("payment provider: latency: %w", err))
	}
	return c, errors.Join(wrong...)
}

// declinedPrefix begins the references of cards that no bank pays for.
const declinedPrefix = "declined-"

// FakeProvider moves no money. It can decline, be slow and leave calls without
// an answer.
type FakeProvider struct {
	book   Book
	config ProviderConfig

	mu  sync.Mutex
	rng *rand.Rand
}

// NewFakeProvider makes a provider that remembers in book; pods with different
// salts draw different fates.
func NewFakeProvider(book Book, c ProviderConfig, salt string) *FakeProvider {
	return &FakeProvider{book: book, config: c, rng: rand.New(rand.NewPCG(c.Seed, hash(salt)))}
}

var _ Provider = (*FakeProvider)(nil)

func hash(text string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, text)
	return h.Sum64()
}

// Charge implements Provider.
func (p *FakeProvider) Charge(ctx context.Context, c Charge, card string) (Charge, error) {
	c.State = Captured
	if strings.HasPrefix(card, declinedPrefix) || p.declines(c.Key) {
		c.State = Refused
	}
	return p.do(ctx, c)
}

// Void implements Provider.
func (p *FakeProvider) Void(ctx context.Context, key string) (Charge, error) {
	return p.do(ctx, Charge{Key: key, State: Voided})
}

// declines decides by the key, so that a repeated call meets the same fate.
func (p *FakeProvider) declines(key string) bool {
	if p.config.DeclineRate <= 0 {
		return false
	}
	return rand.New(rand.NewPCG(p.config.Seed, hash(key))).Float64() < p.config.DeclineRate
}

func (p *FakeProvider) do(ctx context.Context, c Charge) (Charge, error) {
	wait, timeout, lost := p.draw()
	if err := pause.For(ctx, wait); err != nil {
		return Charge{}, err
	}
	if timeout {
		<-ctx.Done()
		return Charge{}, ctx.Err()
	}
	kept, err := p.book.Enter(ctx, c)
	if lost && err == nil {
		<-ctx.Done()
		return Charge{}, ctx.Err()
	}
	return kept, err
}

func (p *FakeProvider) draw() (wait time.Duration, timeout, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait = p.config.Latency.Draw(p.rng)
	timeout = p.config.TimeoutRate > 0 && p.rng.Float64() < p.config.TimeoutRate
	lost = p.config.LostRate > 0 && p.rng.Float64() < p.config.LostRate
	return wait, timeout, lost
}

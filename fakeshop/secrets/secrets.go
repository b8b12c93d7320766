// Package secrets reads what a service must know and may not tell: its
// database login and, for payments, the key of card tokens; from files
// (a mounted Kubernetes Secret) or from Vault.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// Set is what a service knows. It prints as nothing.
type Set struct {
	DBUser     string
	DBPassword string
	PaymentKey string // "" for services that need none
}

// String keeps secrets out of logs.
func (Set) String() string { return "secrets.Set(hidden)" }

// GoString keeps secrets out of logs.
func (Set) GoString() string { return "secrets.Set(hidden)" }

// LogValue keeps secrets out of logs.
func (Set) LogValue() slog.Value { return slog.StringValue("hidden") }

// Source is where secrets come from.
type Source interface {
	Read(ctx context.Context) (map[string]string, error)
}

// Files reads each secret from a file of its name.
type Files struct{ Dir string }

// Read returns the files that are there; which of them are needed is known to
// who asks.
func (f Files) Read(context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range []string{KeyUser, KeyPassword, KeyPayment} {
		data, err := os.ReadFile(filepath.Join(f.Dir, key))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading secret %s: %w", key, err)
		}
		out[key] = strings.TrimRight(string(data), "\n")
	}
	return out, nil
}

// The keys of a secret, in files and in Vault.
const (
	KeyUser     = "db-user"
	KeyPassword = "db-password"
	KeyPayment  = "payment-key"
)

// Keeper holds the latest secrets and reads them again now and then, so that
// rotated ones arrive without a restart.
type Keeper struct {
	source  Source
	payment bool // the payment key is needed
	every   time.Duration
	log     *slog.Logger
	latest  atomic.Pointer[Set]
	nudged  chan struct{}
	rest    time.Duration // at least so long after a nudge comes the next
	renewed func()        // is told of another login; nil for nobody
}

// NewKeeper makes a Keeper that reads again after each every.
func NewKeeper(source Source, needPaymentKey bool, every time.Duration, log *slog.Logger) *Keeper {
	return &Keeper{source: source, payment: needPaymentKey, every: every, log: log,
		nudged: make(chan struct{}, 1), rest: 5 * time.Second}
}

// OnRenewal has f called after each reading that brings another database login
// than the one before. It must be set before Keep is called.
func (k *Keeper) OnRenewal(f func()) { k.renewed = f }

// Load reads the secrets, and tries until it has them or ctx ends.
func (k *Keeper) Load(ctx context.Context) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := k.read(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("loading secrets: %w", err)
		}
		k.log.Warn("secrets are not there yet", "error", err, "again", wait.String())
		if err := pause.For(ctx, wait); err != nil {
			return fmt.Errorf("loading secrets: %w", err)
		}
	}
}

// Keep reads the secrets again and again until ctx ends, and soon after a
// Nudge. A failed reading leaves the old ones.
func (k *Keeper) Keep(ctx context.Context) {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	var rested <-chan time.Time
	nudged := k.nudged
	for {
		select {
		case <-ctx.Done():
			return
		case <-rested:
			rested, nudged = nil, k.nudged
			continue
		case <-nudged:
			rested, nudged = time.After(k.rest), nil
		case <-tick.C:
		}
		if err := k.read(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("secrets could not be read again", "error", err)
		}
	}
}

// Nudge asks for a reading before its time: somebody refused the secrets. It
// does not wait.
func (k *Keeper) Nudge() {
	select {
	case k.nudged <- struct{}{}:
	default: // asked already
	}
}

// Latest returns the secrets read last; the zero Set before Load.
func (k *Keeper) Latest() Set {
	if s := k.latest.Load(); s != nil {
		return *s
	}
	return Set{}
}

// Loaded tells whether there are secrets.
func (k *Keeper) Loaded() bool { return k.latest.Load() != nil }

func (k *Keeper) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	values, err := k.source.Read(ctx)
	if err != nil {
		return err
	}
	s := Set{DBUser: values[KeyUser], DBPassword: values[KeyPassword]}
	missing := missingOf(values, KeyUser, KeyPassword)
	if k.payment {
		s.PaymentKey = values[KeyPayment]
		missing = append(missing, missingOf(values, KeyPayment)...)
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing or empty: %s", strings.Join(missing, ", "))
	}
	was := k.latest.Swap(&s)
	if was != nil && k.renewed != nil && (was.DBUser != s.DBUser || was.DBPassword != s.DBPassword) {
		k.renewed()
	}
	return nil
}

func missingOf(values map[string]string, keys ...string) (missing []string) {
	for _, key := range keys {
		if values[key] == "" {
			missing = append(missing, key)
		}
	}
	return missing
}

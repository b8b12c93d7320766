package rotation

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/secrets"
)

// Name is the rotator's own: its service account's, its role's in Vault, and its
// own secret's.
const Name = chart.Rotator

// Login is a login of PostgreSQL. It prints without its password.
type Login struct{ User, Password string }

// String keeps the password out of logs.
func (l Login) String() string { return l.User }

// GoString keeps the password out of logs.
func (l Login) GoString() string { return l.User }

// LogValue keeps the password out of logs.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.User) }

// Vault is where the secrets are. secrets.KV is one.
type Vault interface {
	Read(ctx context.Context, path string) (secrets.Stored, error)
	// Write fails when the newest version is not the one of the number over.
	Write(ctx context.Context, path string, values map[string]string, over int) error
	Describe(ctx context.Context, path string, custom map[string]string) error
	// Leave logs out; a later call logs in again.
	Leave(ctx context.Context)
}

var _ Vault = (*secrets.KV)(nil)

// Database is where logins are made. Servers is one.
type Database interface {
	// Connect is ErrRefused for a login that is refused.
	Connect(ctx context.Context, login Login) (Session, error)
	// Admits tries a login on every server; one that is refused is ErrRefused.
	Admits(ctx context.Context, login Login) error
}

var _ Database = Servers{}

// ErrLocked means that another run is at work.
var ErrLocked = errors.New("another rotation is running")

// errInUse means that a login has sessions.
var errInUse = errors.New("the login has sessions")

// ErrRefused means that a server did not let a login in.
var ErrRefused = errors.New("the login is refused")

// Session is the connection that a run works over.
type Session interface {
	// Lock takes the lock of rotations, which ends with the session, or is
	// ErrLocked.
	Lock(ctx context.Context) error
	// Logins are those that there are, with how many sessions each has on all
	// servers, this one left out.
	Logins(ctx context.Context) (map[string]int, error)
	Renew(ctx context.Context, login Login) error
	Retire(ctx context.Context, user string) error
	Close()
}

// Options are how a rotator goes about it.
type Options struct {
	Base     string   // of the secrets in Vault: secret/data/prod-app
	Services []string // whose secrets are renewed, beside the rotator's own
	Period   time.Duration
	// Lead is how long before its Period is over a secret is renewed, so that it
	// may fail once or twice.
	Lead time.Duration
	// TakeUp is within what time every service has read Vault again, also when one
	// reading failed.
	TakeUp time.Duration
	// Patience is how long sessions of an old login are waited for.
	Patience time.Duration
	Poll     time.Duration // between two looks at them; 0 is 2 s
	Wait     time.Duration // that another run may take; 0 is 30 s
	Now      bool          // all secrets are renewed, whatever their age
}

// lockPatience is how long the session of a run that died may last, too.
const lockPatience = 30 * time.Second

// Rotator renews the shop's secrets.
type Rotator struct {
	Vault    Vault
	Database Database
	Options  Options
	Log      *slog.Logger
}

// run is one run of a rotator.
type run struct {
	*Rotator
	session Session
	held    map[string]secrets.Stored // by name
	changed time.Time                 // when Vault was last written to, or the run began
}

// Run renews what is due, and ends the logins that no secret names any more. It
// may be killed at any instant and run again.
func (r *Rotator) Run(ctx context.Context) error {
	one := &run{Rotator: r, changed: time.Now()}
	defer r.Vault.Leave(ctx)
	if err := one.enter(ctx); err != nil {
		return err
	}
	defer func() { one.session.Close() }() // the one that it has by then
	if err := one.retire(ctx); err != nil {
		return fmt.Errorf("finishing an earlier rotation: %w", err)
	}
	renewed, err := one.renewDue(ctx)
	if err != nil {
		return err
	}
	if err := one.promise(ctx); err != nil {
		return err
	}
	if err := one.retire(ctx); err != nil {
		return err
	}
	r.Log.Info("rotation is done", "renewed", renewed, "secrets", len(one.held))
	return nil
}

// enter connects with the rotator's own login, takes the lock and reads all
// secrets. While another run has the lock it waits a little, and not connected:
// the other may be waiting for this login's sessions to end.
func (r *run) enter(ctx context.Context) error {
	for began := time.Now(); ; {
		err := r.tryEnter(ctx)
		if !errors.Is(err, ErrLocked) && !errors.Is(err, ErrRefused) || time.Since(began) > cmp.Or(r.Options.Wait, lockPatience) {
			return err
		}
		if err := pause.For(ctx, cmp.Or(r.Options.Poll, 500*time.Millisecond)); err != nil {
			return err
		}
	}
}

func (r *run) tryEnter(ctx context.Context) (err error) {
	own, err := r.Vault.Read(ctx, r.path(Name))
	if err != nil {
		return err
	}
	session, err := r.Database.Connect(ctx, loginOf(own))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			session.Close()
		}
	}()
	if err := session.Lock(ctx); err != nil {
		return err
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	if r.held[Name].Version != own.Version { // another run had the lock meanwhile
		return ErrLocked
	}
	r.session = session
	return nil
}

func (r *run) path(name string) string { return r.Options.Base + "/" + name }

// names begin with the rotator's own.
func (r *run) names() []string { return append([]string{Name}, r.Options.Services...) }

func (r *run) read(ctx context.Context) error {
	r.held = map[string]secrets.Stored{}
	for _, name := range r.names() {
		stored, err := r.Vault.Read(ctx, r.path(name))
		if err != nil {
			return err
		}
		if l := loginOf(stored); l.User == "" || l.Password == "" || stored.Version == 0 {
			return fmt.Errorf("%s in Vault holds no login", r.path(name))
		}
		r.held[name] = stored
	}
	return nil
}

func loginOf(s secrets.Stored) Login {
	return Login{User: s.Values[secrets.KeyUser], Password: s.Values[secrets.KeyPassword]}
}

// renewDue renews what is due, its own login first: the rest is done with it.
func (r *run) renewDue(ctx context.Context) (renewed int, err error) {
	for _, name := range r.names() {
		why, err := r.due(ctx, name)
		if err != nil {
			return renewed, err
		}
		if why == "" {
			continue
		}
		if err := r.renew(ctx, name, why); err != nil {
			return renewed, fmt.Errorf("renewing the secret of %s: %w", name, err)
		}
		renewed++
		if name == Name {
			r.session.Close()
			if err := r.enter(ctx); err != nil {
				return renewed, fmt.Errorf("going on with a new login: %w", err)
			}
		}
	}
	return renewed, nil
}

// due says why a secret is to be renewed, "" when it is not.
func (r *run) due(ctx context.Context, name string) (why string, err error) {
	stored := r.held[name]
	if r.Options.Now {
		return "asked for", nil
	}
	if age := time.Since(stored.Written); age >= r.Options.Period-r.Options.Lead {
		return fmt.Sprintf("%s old", age.Round(time.Minute)), nil
	}
	err = r.Database.Admits(ctx, loginOf(stored))
	if errors.Is(err, ErrRefused) {
		return err.Error(), nil
	}
	return "", err
}

// renew gives a secret the login whose turn it is, and another key where it has
// one. The login works before anybody hears of it.
func (r *run) renew(ctx context.Context, name, why string) error {
	stored := r.held[name]
	login := Login{User: turn(name, loginOf(stored).User), Password: rand.Text()}
	if err := r.session.Renew(ctx, login); err != nil {
		return err
	}
	if err := r.Database.Admits(ctx, login); err != nil {
		return err
	}
	values := maps.Clone(stored.Values)
	values[secrets.KeyUser], values[secrets.KeyPassword] = login.User, login.Password
	if values[secrets.KeyPayment] != "" {
		values[secrets.KeyPayment] = rand.Text()
	}
	if err := r.Vault.Write(ctx, r.path(name), values, stored.Version); err != nil {
		return err
	}
	r.changed = time.Now()
	stored.Values, stored.Version, stored.Written = values, stored.Version+1, r.changed
	r.held[name] = stored
	r.Log.Info("renewed a secret", "secret", r.path(name), "version", stored.Version, "login", login, "why", why)
	return nil
}

// promise writes beside each secret how often it is renewed.
func (r *run) promise(ctx context.Context) error {
	period := r.Options.Period.String()
	for _, name := range r.names() {
		stored := r.held[name]
		if stored.Custom[chart.RotationPeriod] == period {
			continue
		}
		custom := maps.Clone(stored.Custom)
		if custom == nil {
			custom = map[string]string{}
		}
		custom[chart.RotationPeriod] = period
		if err := r.Vault.Describe(ctx, r.path(name), custom); err != nil {
			return err
		}
	}
	return nil
}

// retire ends the logins that no secret names, each when its services have had
// the time to read again and no session of it is left. One that stays in use is
// left as it is, and an error: ending it would fail requests.
func (r *run) retire(ctx context.Context) error {
	reread := false
	for {
		sessions, err := r.session.Logins(ctx)
		if err != nil {
			return err
		}
		var left []string
		for _, user := range slices.Sorted(maps.Keys(sessions)) {
			switch {
			case r.named(user):
				continue
			case sessions[user] > 0 || !ofRotator(user) && time.Since(r.changed) < r.Options.TakeUp:
				left = append(left, fmt.Sprintf("%s with %d sessions", user, sessions[user]))
				continue
			}
			if !reread { // somebody else may have written it into Vault again
				if err := r.read(ctx); err != nil {
					return err
				}
				if reread = true; r.named(user) {
					continue
				}
			}
			switch err := r.session.Retire(ctx, user); {
			case errors.Is(err, errInUse):
				left = append(left, user+", which was used again")
			case err != nil:
				return err
			default:
				r.Log.Info("ended a login", "login", user)
			}
		}
		waited := time.Since(r.changed)
		switch {
		case len(left) == 0:
			return nil
		case waited > r.Options.Patience:
			return fmt.Errorf("after %s old logins are still in use: %s; they go on working, and the next run ends them", waited.Round(time.Second), strings.Join(left, ", "))
		}
		if err := pause.For(ctx, cmp.Or(r.Options.Poll, 2*time.Second)); err != nil {
			return err
		}
	}
}

func (r *run) named(user string) bool {
	for _, stored := range r.held {
		if loginOf(stored).User == user {
			return true
		}
	}
	return false
}

// turn is the login whose turn it is, after the present one.
func turn(name, present string) string {
	logins := chart.Logins(name)
	if present == logins[0] {
		return logins[1]
	}
	return logins[0]
}

// ofRotator tells its own logins, which no service has to forget first.
func ofRotator(user string) bool {
	logins := chart.Logins(Name)
	return slices.Contains(logins[:], user)
}

package rotation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/secrets"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// memory is a database in memory.
type memory struct {
	mu       sync.Mutex
	password map[string]string
	sessions map[string]int // of services
	locked   bool
	did      []string
}

func newMemory(logins ...Login) *memory {
	m := &memory{password: map[string]string{}, sessions: map[string]int{}}
	for _, l := range logins {
		m.password[l.User] = l.Password
	}
	return m
}

func (m *memory) Admits(_ context.Context, l Login) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, there := m.password[l.User]; !there || p != l.Password {
		return ErrRefused
	}
	return nil
}

func (m *memory) Connect(ctx context.Context, l Login) (Session, error) {
	if err := m.Admits(ctx, l); err != nil {
		return nil, err
	}
	return &memorySession{memory: m, user: l.User}, nil
}

type memorySession struct {
	*memory
	user string
	mine bool
}

func (s *memorySession) Lock(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return ErrLocked
	}
	s.locked, s.mine = true, true
	return nil
}

func (s *memorySession) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mine {
		s.locked, s.mine = false, false
	}
}

func (s *memorySession) Logins(context.Context) (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for user := range s.password {
		all[user] = s.sessions[user]
	}
	return all, nil
}

func (s *memorySession) Renew(_ context.Context, l Login) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, "renew "+l.User)
	s.password[l.User] = l.Password
	return nil
}

func (s *memorySession) Retire(_ context.Context, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case user == s.user:
		return errors.New("the session's own login")
	case s.sessions[user] > 0:
		return errInUse
	}
	s.did = append(s.did, "retire "+user)
	delete(s.password, user)
	return nil
}

var services = []string{"order-processing", "payment-gateway"}

// ground is a shop whose secrets were just moved into Vault.
func ground(t *testing.T) (*Rotator, *memory, *shoptest.Vault, *bytes.Buffer) {
	t.Helper()
	vault := shoptest.StartVault(t, Name)
	now := time.Now()
	vault.Put(Name, map[string]string{"db-user": "secret_rotator_a", "db-password": "first-own"}, now)
	vault.Put("order-processing", map[string]string{"db-user": "shop_vault", "db-password": "first"}, now)
	vault.Put("payment-gateway", map[string]string{"db-user": "shop_vault", "db-password": "first", "payment-key": "first-key", "note": "kept"}, now)
	db := newMemory(Login{"secret_rotator_a", "first-own"}, Login{"shop_vault", "first"})
	var said bytes.Buffer
	return &Rotator{
		Vault: &secrets.KV{Vault: vault.As(Name)}, Database: db, Log: slog.New(slog.NewJSONHandler(&said, nil)),
		Options: Options{Base: shoptest.VaultBase, Services: services, Period: 720 * time.Hour, Lead: 48 * time.Hour,
			TakeUp: 20 * time.Millisecond, Patience: time.Second, Poll: time.Millisecond, Wait: 20 * time.Millisecond},
	}, db, vault, &said
}

// sound is that every secret in Vault is a login that works, and that there are
// no others.
func sound(t *testing.T, db *memory, vault *shoptest.Vault) {
	t.Helper()
	named := map[string]string{}
	for _, name := range append([]string{Name}, services...) {
		l := loginOf(vault.Newest(name))
		named[l.User] = l.Password
	}
	require.Equal(t, named, db.password)
}

func TestEachServiceGetsALoginOfItsOwnAndTheSharedOneEnds(t *testing.T) {
	r, db, vault, said := ground(t)
	r.Options.Now = true
	require.NoError(t, r.Run(t.Context()))
	sound(t, db, vault)
	require.Equal(t, []string{
		"renew secret_rotator_b", "renew shop_order_processing_a", "renew shop_payment_gateway_a", "retire secret_rotator_a", "retire shop_vault",
	}, db.did)
	payment := vault.Newest("payment-gateway")
	require.Equal(t, 2, payment.Version)
	require.Equal(t, map[string]string{"rotation-period": "720h0m0s"}, payment.Custom)
	require.NotEqual(t, "first-key", payment.Values["payment-key"])
	require.Regexp(t, "^[A-Z2-7]{26}$", payment.Values["payment-key"])
	require.Equal(t, "kept", payment.Values["note"], "what it knows nothing of stays")
	require.NotContains(t, vault.Newest("order-processing").Values, "payment-key")
	for _, name := range append([]string{Name}, services...) {
		for _, value := range []string{vault.Newest(name).Values["db-password"], payment.Values["payment-key"]} {
			require.NotContains(t, said.String(), value)
		}
	}

	db.did = nil
	require.NoError(t, r.Run(t.Context()))
	sound(t, db, vault)
	require.Contains(t, db.did, "renew shop_order_processing_b", "it is the other one's turn")
	require.Contains(t, db.did, "retire shop_order_processing_a")
	require.Empty(t, vault.Denied())
	require.Equal(t, 2, vault.Logins(), "one a run")
	require.Zero(t, vault.Tokens())
}

func TestMostDaysNothingIsDue(t *testing.T) {
	r, db, vault, _ := ground(t)
	require.NoError(t, r.Run(t.Context()))
	require.Empty(t, db.did)
	require.Equal(t, 1, vault.Newest("order-processing").Version)
	require.Equal(t, "720h0m0s", vault.Newest("order-processing").Custom["rotation-period"], "it is looked after from now on")
	sound(t, db, vault)
}

func TestASecretIsRenewedBeforeItIsTooOld(t *testing.T) {
	for name, c := range map[string]struct {
		age time.Duration
		did []string
	}{
		"a day too early": {27 * 24 * time.Hour, nil},
		"in time":         {28*24*time.Hour + time.Minute, []string{"renew shop_order_processing_a"}},
		"late":            {90 * 24 * time.Hour, []string{"renew shop_order_processing_a"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, db, vault, _ := ground(t)
			vault.Put("order-processing", map[string]string{"db-user": "shop_vault", "db-password": "first"}, time.Now().Add(-c.age))
			require.NoError(t, r.Run(t.Context()))
			require.Equal(t, c.did, db.did, "and the other services' login stays")
			sound(t, db, vault)
		})
	}
}

func TestALoginThatIsRefusedIsRenewedAtOnce(t *testing.T) {
	r, db, vault, _ := ground(t)
	vault.Put("order-processing", map[string]string{"db-user": "shop_order_processing_a", "db-password": "lost"}, time.Now())
	require.NoError(t, r.Run(t.Context()))
	require.Equal(t, []string{"renew shop_order_processing_b"}, db.did)
	sound(t, db, vault)
}

func TestAnOldLoginInUseIsLeftAndTold(t *testing.T) {
	r, db, vault, _ := ground(t)
	r.Options.Now, r.Options.Patience = true, 50*time.Millisecond
	db.sessions["shop_vault"] = 3
	err := r.Run(t.Context())
	require.ErrorContains(t, err, "old logins are still in use: shop_vault with 3 sessions; they go on working")
	require.Contains(t, db.password, "shop_vault")
	require.False(t, db.locked)

	db.did, db.sessions["shop_vault"], r.Options.Now = nil, 0, false
	require.NoError(t, r.Run(t.Context()))
	require.Equal(t, []string{"retire shop_vault"}, db.did, "the next run ends it")
	sound(t, db, vault)
}

func TestServicesHaveTimeToReadAgainBeforeTheirOldLoginEnds(t *testing.T) {
	r, db, vault, _ := ground(t)
	r.Options.Now, r.Options.TakeUp, r.Options.Patience = true, 300*time.Millisecond, 5*time.Second
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	require.Eventually(t, func() bool { return vault.Newest("payment-gateway").Version == 2 }, 5*time.Second, time.Millisecond)
	began := time.Now()
	require.NoError(t, db.Admits(t.Context(), Login{"shop_vault", "first"}))
	require.NoError(t, <-done)
	require.Greater(t, time.Since(began), 200*time.Millisecond)
	require.ErrorIs(t, db.Admits(t.Context(), Login{"shop_vault", "first"}), ErrRefused)
}

func TestTwoRotationsDoNotOverlap(t *testing.T) {
	r, db, _, _ := ground(t)
	db.locked = true
	require.ErrorIs(t, r.Run(t.Context()), ErrLocked)
	require.Empty(t, db.did)
	r.Options.Wait = 5 * time.Second
	time.AfterFunc(50*time.Millisecond, func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		db.locked = false
	})
	require.NoError(t, r.Run(t.Context()), "it waits a little for the other to end")
}

// meddler writes a version of somebody else's before each write of the rotator's.
type meddler struct {
	*secrets.KV
	vault *shoptest.Vault
}

func (m meddler) Write(ctx context.Context, path string, values map[string]string, over int) error {
	name := strings.TrimPrefix(path, shoptest.VaultBase+"/")
	m.vault.Put(name, m.vault.Newest(name).Values, time.Now())
	return m.KV.Write(ctx, path, values, over)
}

func TestWhatSomebodyElseWroteMeanwhileIsNotWrittenOver(t *testing.T) {
	r, db, vault, _ := ground(t)
	r.Vault, r.Options.Now = meddler{KV: &secrets.KV{Vault: vault.As(Name)}, vault: vault}, true
	require.ErrorContains(t, r.Run(t.Context()), "check-and-set parameter did not match")
	require.Equal(t, Login{"secret_rotator_a", "first-own"}, loginOf(vault.Newest(Name)))
	r.Vault = &secrets.KV{Vault: vault.As(Name)}
	require.NoError(t, r.Run(t.Context()))
	sound(t, db, vault)
}

func TestAVaultWithoutALoginIsAnError(t *testing.T) {
	r, db, vault, _ := ground(t)
	vault.Put("order-processing", map[string]string{"db-user": "x"}, time.Now())
	require.EqualError(t, r.Run(t.Context()), "secret/data/prod-app/order-processing in Vault holds no login")
	require.False(t, db.locked)
}

// Killed between any two actions, and run again. What is stored works at any
// instant, and in the end there is nothing but what is stored.
func TestARotationMayBeKilledAtAnyInstant(t *testing.T) {
	for _, again := range []bool{true, false} {
		points := 0
		for at := 0; ; at++ {
			r, db, vault, _ := ground(t)
			r.Options.Now, r.Options.TakeUp = true, time.Millisecond
			killed := &reaper{at: at}
			dying := *r
			dying.Vault, dying.Database = mortalVault{r.Vault, killed}, mortalDatabase{r.Database, killed}
			err := dying.Run(t.Context())
			if !killed.dead {
				require.NoError(t, err)
				break
			}
			points++
			require.ErrorIs(t, err, errKilled)
			for _, name := range append([]string{Name}, services...) {
				require.NoError(t, db.Admits(t.Context(), loginOf(vault.Newest(name))), "after action %d: %s", at, killed.last)
			}
			r.Options.Now = again
			require.NoError(t, r.Run(t.Context()), "after action %d: %s", at, killed.last)
			sound(t, db, vault)
		}
		require.Greater(t, points, 30)
	}
}

func TestTurns(t *testing.T) {
	for present, want := range map[string]string{
		"shop_vault": "shop_order_processing_a", "shop_order_processing_a": "shop_order_processing_b", "shop_order_processing_b": "shop_order_processing_a",
	} {
		require.Equal(t, want, turn("order-processing", present))
	}
	require.Equal(t, "secret_rotator_b", turn(Name, "secret_rotator_a"))
	require.True(t, ofRotator("secret_rotator_b"))
	require.False(t, ofRotator("shop_order_processing_b"))
}

// The example of RFC 7677, whose exchange follows from these two keys.
func TestAVerifierIsAsTheRFCHasIt(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	got, err := verifier("pencil", salt)
	require.NoError(t, err)
	require.Equal(t, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", got)
}

func TestALoginNeverPrintsItsPassword(t *testing.T) {
	l := Login{"user", "hidden-word"}
	require.Equal(t, []string{"user", "user", "user"}, []string{l.String(), l.GoString(), l.LogValue().String()})
}

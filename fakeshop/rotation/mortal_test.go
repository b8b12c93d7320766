package rotation

import (
	"context"
	"errors"

	"meshsim.dev/meshsim/fakeshop/secrets"
)

var errKilled = errors.New("killed")

// reaper kills a run at its at-th instant: before or after an action. A dead run
// does nothing more; its connection ends, as the kernel would see to.
type reaper struct {
	at   int
	n    int
	dead bool
	last string // the instant
	// waits, when set, leaves out actions that change nothing, of which there may
	// be any number.
	waits bool
}

func (r *reaper) around(action string, changes bool, do func() error) error {
	if r.dead {
		return errKilled
	}
	if r.waits && !changes {
		return do()
	}
	if r.instant("before " + action) {
		return errKilled
	}
	if err := do(); err != nil {
		return err
	}
	if r.instant("after " + action) {
		return errKilled
	}
	return nil
}

func (r *reaper) instant(name string) bool {
	r.dead = r.n == r.at
	if r.dead {
		r.last = name
	}
	r.n++
	return r.dead
}

type mortalVault struct {
	Vault
	r *reaper
}

func (v mortalVault) Read(ctx context.Context, path string) (s secrets.Stored, err error) {
	err = v.r.around("read "+path, false, func() error { s, err = v.Vault.Read(ctx, path); return err })
	return s, err
}

func (v mortalVault) Write(ctx context.Context, path string, values map[string]string, over int) error {
	return v.r.around("write "+path, true, func() error { return v.Vault.Write(ctx, path, values, over) })
}

func (v mortalVault) Describe(ctx context.Context, path string, custom map[string]string) error {
	return v.r.around("describe "+path, true, func() error { return v.Vault.Describe(ctx, path, custom) })
}

type mortalDatabase struct {
	Database
	r *reaper
}

func (d mortalDatabase) Admits(ctx context.Context, l Login) error {
	return d.r.around("try "+l.User, true, func() error { return d.Database.Admits(ctx, l) })
}

func (d mortalDatabase) Connect(ctx context.Context, l Login) (s Session, err error) {
	err = d.r.around("connect", true, func() error { s, err = d.Database.Connect(ctx, l); return err })
	if err != nil {
		if s != nil {
			s.Close()
		}
		return nil, err
	}
	return mortalSession{s, d.r}, nil
}

type mortalSession struct {
	Session
	r *reaper
}

func (s mortalSession) Lock(ctx context.Context) error {
	return s.r.around("lock", true, func() error { return s.Session.Lock(ctx) })
}

func (s mortalSession) Logins(ctx context.Context) (all map[string]int, err error) {
	err = s.r.around("look for logins", false, func() error { all, err = s.Session.Logins(ctx); return err })
	return all, err
}

func (s mortalSession) Renew(ctx context.Context, l Login) error {
	return s.r.around("renew "+l.User, true, func() error { return s.Session.Renew(ctx, l) })
}

func (s mortalSession) Retire(ctx context.Context, user string) error {
	return s.r.around("retire "+user, true, func() error { return s.Session.Retire(ctx, user) })
}

package rotation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"meshsim.dev/meshsim/clusters/pause"
)

// Servers are the shop's PostgreSQL, and the replica of it that services read
// from.
type Servers struct {
	Host        string
	Port        uint16
	ReplicaHost string // "": there is none
	ReplicaPort uint16
	Database    string
}

const (
	// rotationLock is the advisory lock that a run holds.
	rotationLock = 0x726f7461 // "rota"
	// replicaPatience is how far a replica may be behind a new login.
	replicaPatience = 30 * time.Second
	connectWithin   = 5 * time.Second
	statementWithin = 10 * time.Second
)

// Connect implements Database for a real PostgreSQL.
func (s Servers) Connect(ctx context.Context, login Login) (Session, error) {
	conn, err := s.enter(ctx, s.Host, s.Port, login)
	if err != nil {
		return nil, err
	}
	return &session{servers: s, login: login, conn: conn}, nil
}

// enter is dial with errors that tell where and as whom.
func (s Servers) enter(ctx context.Context, host string, port uint16, login Login) (*pgx.Conn, error) {
	conn, err := s.dial(ctx, host, port, login)
	switch {
	case refused(err):
		return nil, fmt.Errorf("logging in at %s as %s: %w", host, login.User, ErrRefused)
	case err != nil:
		return nil, fmt.Errorf("logging in at %s as %s: %w", host, login.User, err)
	}
	return conn, nil
}

func (s Servers) dial(ctx context.Context, host string, port uint16, login Login) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	cc.Host, cc.Port, cc.Database, cc.User, cc.Password = host, port, s.Database, login.User, login.Password
	cc.TLSConfig, cc.Fallbacks, cc.ConnectTimeout = nil, nil, connectWithin
	cc.RuntimeParams["application_name"] = Name
	// Should this machine die, the server soon knows, and the lock is free.
	cc.RuntimeParams["tcp_keepalives_idle"], cc.RuntimeParams["tcp_keepalives_interval"], cc.RuntimeParams["tcp_keepalives_count"] = "5", "5", "3"
	return pgx.ConnectConfig(ctx, cc)
}

// Admits implements Database.
func (s Servers) Admits(ctx context.Context, login Login) error {
	if err := s.admitted(ctx, s.Host, s.Port, login); err != nil || s.ReplicaHost == "" {
		return err
	}
	for began := time.Now(); ; {
		err := s.admitted(ctx, s.ReplicaHost, s.ReplicaPort, login)
		if !errors.Is(err, ErrRefused) {
			return ctx.Err() // one that is away is no hindrance: services read from the primary
		}
		if time.Since(began) > replicaPatience {
			return fmt.Errorf("the replica is behind: %w", err)
		}
		if err := pause.For(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s Servers) admitted(ctx context.Context, host string, port uint16, login Login) error {
	conn, err := s.enter(ctx, host, port, login)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// refused tells that the server did not like the login: SQLSTATE class 28.
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "28")
}

// session is a connection to the primary. Whatever a run does goes through it, so
// that a run that lost its lock can do nothing more.
type session struct {
	servers Servers
	login   Login
	conn    *pgx.Conn
}

// Lock implements Session.
func (s *session) Lock(ctx context.Context) error {
	var mine bool
	if err := s.ask(ctx, "taking the lock", &mine, "SELECT pg_try_advisory_lock($1)", int64(rotationLock)); err != nil {
		return err
	}
	if !mine {
		return ErrLocked
	}
	return nil
}

// Logins implements Session.
func (s *session) Logins(ctx context.Context) (map[string]int, error) {
	all, err := logins(ctx, s.conn)
	if err != nil || s.servers.ReplicaHost == "" {
		return all, err
	}
	conn, err := s.servers.enter(ctx, s.servers.ReplicaHost, s.servers.ReplicaPort, s.login)
	if errors.Is(err, ErrRefused) {
		return nil, err // it is behind, and its sessions are not known
	}
	if err != nil {
		return all, ctx.Err() // one that is away has no sessions
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	there, err := logins(ctx, conn)
	for login, n := range there {
		if _, here := all[login]; here {
			all[login] += n
		}
	}
	return all, err
}

func logins(ctx context.Context, conn *pgx.Conn) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, statementWithin)
	defer cancel()
	rows, err := conn.Query(ctx, "SELECT login, sessions FROM rotation.logins()")
	if err != nil {
		return nil, fmt.Errorf("looking for logins: %w", err)
	}
	all, login, n := map[string]int{}, "", 0
	if _, err := pgx.ForEachRow(rows, []any{&login, &n}, func() error { all[login] = n; return nil }); err != nil {
		return nil, fmt.Errorf("looking for logins: %w", err)
	}
	return all, nil
}

// Renew implements Session.
func (s *session) Renew(ctx context.Context, login Login) error {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	known, err := verifier(login.Password, salt)
	if err != nil {
		return err
	}
	return s.ask(ctx, "renewing the login "+login.User, nil, "SELECT rotation.renew($1, $2)", login.User, known)
}

// Retire implements Session.
func (s *session) Retire(ctx context.Context, user string) error {
	err := s.ask(ctx, "ending the login "+user, nil, "SELECT rotation.retire($1)", user)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "55006" {
		return errInUse
	}
	return err
}

// ask runs a statement. Its error has the statement's name and PostgreSQL's
// message, and no argument.
func (s *session) ask(ctx context.Context, doing string, into any, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementWithin)
	defer cancel()
	var err error
	if into == nil {
		_, err = s.conn.Exec(ctx, statement, args...)
	} else {
		err = s.conn.QueryRow(ctx, statement, args...).Scan(into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Close implements Session.
func (s *session) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	_ = s.conn.Close(ctx) // the connection is gone, whatever it says
}

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

// hop is the name PostgreSQL has in the hop chain of a failure.
const hop = "postgres"

// Config says where the database is and who asks.
type Config struct {
	Host string
	// ReadHost is where what may be a little old can be read: a streaming
	// replica. "" is Host.
	ReadHost string
	Port     uint16
	ReadPort uint16 // 0 is Port
	Name     string
	// Credentials are asked for with every new connection, so that rotated
	// ones are used without a restart.
	Credentials func(context.Context) (user, password string, err error)
	// Refused is told when the database refuses the credentials; it must not
	// block. May be nil.
	Refused func()
	// Deferred lets a commit return before it is on the disk. PostgreSQL's log
	// keeps the order of commits, so the next commit of anyone that does wait
	// takes all earlier ones along: an order that is settled is on the disk
	// with its stock and its payment. For services whose writes matter only
	// together with such a later one, or may be lost.
	Deferred bool
	// Application names the connections in pg_stat_activity.
	Application string
}

// Connections that one pod has at most.
const (
	mostConns     = 4
	mostReadConns = 2
)

type pool = *pgxpool.Pool

// DB is the database as one pod uses it.
type DB struct {
	pool    pool
	replica *replica // nil: there is none
}

// Open prepares the connections; it does not connect yet.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	primary, err := open(ctx, cfg, cfg.Host, cfg.Port, mostConns)
	if err != nil {
		return nil, err
	}
	db := &DB{pool: primary}
	if cfg.ReadHost != "" {
		read, err := open(ctx, cfg, cfg.ReadHost, cmp.Or(cfg.ReadPort, cfg.Port), mostReadConns)
		if err != nil {
			primary.Close()
			return nil, err
		}
		db.replica = &replica{pool: read}
	}
	return db, nil
}

func open(ctx context.Context, cfg Config, host string, port uint16, conns int32) (pool, error) {
	pc, err := pgxpool.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("preparing the database's configuration: %w", err)
	}
	pc.MaxConns, pc.MinConns = conns, 0
	pc.MaxConnLifetime, pc.MaxConnLifetimeJitter = 30*time.Minute, 5*time.Minute
	pc.MaxConnIdleTime, pc.HealthCheckPeriod = 2*time.Minute, 30*time.Second
	// A connection that died in the pool is found out by its first statement,
	// which is then repeated on another; asking each one first whether it lives
	// would cost a round trip every time.
	pc.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	cc := pc.ConnConfig
	cc.Tracer = tracer{}
	cc.Host, cc.Port, cc.Database = host, port, cfg.Name
	cc.TLSConfig, cc.Fallbacks = nil, nil
	cc.ConnectTimeout = 2 * time.Second
	cc.RuntimeParams["application_name"] = cfg.Application
	if cfg.Deferred {
		cc.RuntimeParams["synchronous_commit"] = "off"
	}
	pc.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		user, password, err := cfg.Credentials(ctx)
		if err != nil {
			return fmt.Errorf("asking for the database's credentials: %w", err)
		}
		cc.User, cc.Password = user, password
		return nil
	}
	if cfg.Refused != nil {
		closeOrNot := cc.OnPgError
		cc.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool {
			if strings.HasPrefix(e.Code, "28") {
				cfg.Refused()
			}
			return closeOrNot(c, e)
		}
	}
	p, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("preparing the database's connections: %w", err)
	}
	return p, nil
}

// Ping tells whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	return at("asking whether it answers", d.pool.Ping(ctx))
}

// Renew has every connection made anew, with the credentials of now: idle ones
// end at once, those in use when their statement is done.
func (d *DB) Renew() {
	d.pool.Reset()
	if d.replica != nil {
		d.replica.pool.Reset()
	}
}

// Close closes the connections, waiting for those in use.
func (d *DB) Close() {
	d.pool.Close()
	if d.replica != nil {
		d.replica.pool.Close()
	}
}

// at gives an error of the database its hop and its kind.
func at(doing string, err error) error {
	if err == nil {
		return nil
	}
	out := &fail.Error{Code: code(err), Message: err.Error(), Err: err}
	if out.Code == codes.InvalidArgument {
		out.Message = "a value cannot be stored"
	}
	return fail.At(hop, doing, out)
}

func code(err error) codes.Code {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "22": // a value PostgreSQL cannot keep, such as a NUL in a text
			return codes.InvalidArgument
		case "08", "53", "57", "28": // connection, resources, shutdown, login
			return codes.Unavailable
		case "40": // a serialisation failure, a deadlock
			return codes.Aborted
		}
		return codes.Internal
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return codes.Unavailable
	}
	if _, ok := errors.AsType[net.Error](err); ok || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return codes.Unavailable
	}
	return codes.Internal
}

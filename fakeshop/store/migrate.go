package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock that migrating pods queue for.
const migrationLock = 0x73686f70 // "shop"

// migration is a step of the schema: SQL, or work of the program's own.
type migration struct {
	version int
	name    string
	sql     string
	work    func(ctx context.Context, tx pgx.Tx) error
}

// programmed are the migrations that are no SQL, by their number.
var programmed = map[int]migration{
	9: {name: "0009_assortment", work: putAssortment},
}

// Migrate brings the schema up to this program's version. Any number of pods
// may call it at once: one works, the others wait and find it done. A schema
// that is newer already is left as it is.
func (d *DB) Migrate(ctx context.Context) error {
	list, err := readMigrations(migrations, programmed)
	if err != nil {
		return err
	}
	want := list[len(list)-1].version
	if have, err := d.version(ctx); err != nil || have >= want {
		return err
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return at("connecting to migrate", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return at("waiting to migrate", err)
	}
	// Taken back even when ctx has ended: the connection lives on in the pool.
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	}()
	have, err := d.version(ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.version <= have {
			continue
		}
		if err := apply(ctx, conn.Conn(), m); err != nil {
			return at("migration "+m.name, err)
		}
	}
	return nil
}

// version is that of the last migration applied, 0 in an empty database.
func (d *DB) version(ctx context.Context) (int, error) {
	var there bool
	if err := d.pool.QueryRow(ctx, "SELECT to_regclass('public.schema_migrations') IS NOT NULL").Scan(&there); err != nil {
		return 0, at("reading the schema's version", err)
	}
	if !there {
		return 0, nil
	}
	var v int
	err := d.pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM public.schema_migrations").Scan(&v)
	return v, at("reading the schema's version", err)
}

// apply runs one migration in one transaction, as the group role, so that
// whatever it makes belongs to the group.
func apply(ctx context.Context, conn *pgx.Conn, m migration) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		const before = `SET LOCAL ROLE shop_app;
			CREATE TABLE IF NOT EXISTS public.schema_migrations (
				version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`
		if _, err := tx.Exec(ctx, before); err != nil {
			return err
		}
		if m.work != nil {
			if err := m.work(ctx, tx); err != nil {
				return err
			}
		} else if _, err := tx.Exec(ctx, m.sql); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO public.schema_migrations (version, name) VALUES ($1, $2)", m.version, m.name)
		return err
	})
}

// readMigrations reads NNNN_name.sql files, which together with the programmed
// ones must be numbered 1, 2, 3, ….
func readMigrations(files fs.FS, programmed map[int]migration) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("listing migrations: %w", err)
	}
	var list []migration
	next := func() {
		for {
			m, is := programmed[len(list)+1]
			if !is {
				return
			}
			m.version = len(list) + 1
			list = append(list, m)
		}
	}
	for _, name := range names {
		next()
		base := strings.TrimSuffix(path.Base(name), ".sql")
		number, _, _ := strings.Cut(base, "_")
		if v, err := strconv.Atoi(number); err != nil || v != len(list)+1 {
			return nil, fmt.Errorf("migration %s: number %d is wanted", base, len(list)+1)
		}
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", base, err)
		}
		list = append(list, migration{version: len(list) + 1, name: base, sql: string(sql)})
	}
	next()
	if len(list) == 0 {
		return nil, fmt.Errorf("there are no migrations")
	}
	return list, nil
}

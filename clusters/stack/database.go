package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/client-go/util/exec"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// randomText is a password: 26 letters and digits, 130 random bits, nothing to quote.
func randomText() string { return rand.Text() }

// The scripts below get their password on standard input, within the container,
// as the superuser who is let in by the local socket alone. PostgreSQL is told
// not to log them, and psql to tell an error by its code and not by its text.
const quietSQL = `\set VERBOSITY sqlstate
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
`

const setLoginSQL = `\set login 'LOGIN'
\set password 'PASSWORD'
SELECT format('CREATE ROLE %I', :'login')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login') \gexec
GRANT GROUP TO :"login";
ALTER ROLE :"login" LOGIN PASSWORD :'password';
`

const endLoginSQL = `\set login 'LOGIN'
SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', :'login')
 WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = :'login') \gexec
`

// The groups that logins are members of, and all their rights.
const (
	shopGroup     = "shop_app"
	rotationGroup = "shop_rotation"
)

// setLogin makes a database login of the shop, or gives it a new password.
func setLogin(ctx context.Context, env *Env, login, password string) error {
	return setLoginOf(ctx, env, shopGroup, login, password)
}

func setLoginOf(ctx context.Context, env *Env, group, login, password string) error {
	script := strings.NewReplacer("LOGIN'", login+"'", "PASSWORD'", password+"'", "GROUP", group).Replace(setLoginSQL)
	if err := runSQL(ctx, env, script); err != nil {
		return fmt.Errorf("make database login %s: %w", login, err)
	}
	return nil
}

// endForgottenSQL ends the logins of earlier rotations that nobody is connected by.
const endForgottenSQL = `DO $$
DECLARE
    forgotten text;
BEGIN
    FOR forgotten IN SELECT login FROM rotation.logins() WHERE sessions = 0 AND login NOT IN ('SHOP', 'ROTATOR') LOOP
        BEGIN
            PERFORM rotation.retire(forgotten);
        EXCEPTION WHEN object_in_use THEN
            NULL; -- the next rotation ends it
        END;
    END LOOP;
END $$;
`

// endForgottenLogins ends what an earlier Vault's rotations left: its secrets are
// gone, so nobody knows those logins' passwords.
func endForgottenLogins(ctx context.Context, env *Env) error {
	script := strings.NewReplacer("SHOP", vaultLogin, "ROTATOR", rotatorLogin()).Replace(endForgottenSQL)
	if err := runSQL(ctx, env, script); err != nil {
		return fmt.Errorf("end the logins of earlier rotations: %w", err)
	}
	return nil
}

// setUpRotation gives the database what the rotator of the shop's secrets works
// with.
func setUpRotation(ctx context.Context, env *Env) error {
	script, err := shopchart.RotationSQL()
	if err != nil {
		return err
	}
	if err := runSQL(ctx, env, script); err != nil {
		return fmt.Errorf("set up the rotation of database logins: %w", err)
	}
	return nil
}

// endLogin takes a login the right to log in. Connections it has go on.
func endLogin(ctx context.Context, env *Env, login string) error {
	script := strings.NewReplacer("LOGIN'", login+"'").Replace(endLoginSQL)
	if err := runSQL(ctx, env, script); err != nil {
		return fmt.Errorf("end database login %s: %w", login, err)
	}
	return nil
}

// sqlWithin bounds a script: it waits for no lock for longer.
const sqlWithin = time.Minute

// Exec runs a program in a container of a pod, as kube.Client does.
type Exec func(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader) (stdout, stderr []byte, err error)

// PSQL runs a script in the shop's database with psql inside its pod, as its
// superuser over the local socket, so that no password leaves the cluster. The
// script goes by standard input. The pod says in PG_BIN where its psql is.
func PSQL(ctx context.Context, run Exec, script string, flags ...string) (stdout, stderr []byte, err error) {
	return psqlIn(ctx, run, postgresPod, script, flags)
}

// ReplicaPSQL is PSQL on the database's replica, which only reads.
func ReplicaPSQL(ctx context.Context, run Exec, script string, flags ...string) (stdout, stderr []byte, err error) {
	return psqlIn(ctx, run, ReplicaPod, script, flags)
}

func psqlIn(ctx context.Context, run Exec, pod, script string, flags []string) (stdout, stderr []byte, err error) {
	argv := append([]string{"/bin/sh", "-c", `exec "$PG_BIN/psql" "$@"`, "psql",
		"--host=/var/run/postgresql", "--username=postgres", "--dbname=shop",
		"--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"}, flags...)
	return run(ctx, NamespaceShop, pod, postgresName, argv, strings.NewReader(script))
}

func runSQL(ctx context.Context, env *Env, script string) error {
	ctx, cancel := context.WithTimeout(ctx, sqlWithin)
	defer cancel()
	run := env.exec
	if run == nil {
		run = env.Kube.Exec
	}
	_, stderr, err := PSQL(ctx, run, quietSQL+script)
	if err == nil {
		return nil
	}
	var code exec.CodeExitError
	if errors.As(err, &code) {
		return fmt.Errorf("psql ended with code %d: %s", code.Code, sqlErrors(stderr))
	}
	return err
}

// sqlErrors keeps of psql's messages the SQLSTATE codes alone, as in
// "ERROR:  42501": whatever else it may say could quote the script.
func sqlErrors(stderr []byte) string {
	var codes []string
	for _, line := range strings.Split(string(stderr), "\n") {
		for _, severity := range []string{"ERROR:", "FATAL:"} {
			_, rest, found := strings.Cut(line, severity)
			code := strings.TrimSpace(rest)
			if found && isSQLState(code) {
				codes = append(codes, severity+" "+code)
			}
		}
	}
	if len(codes) == 0 {
		return "no SQLSTATE given"
	}
	return strings.Join(codes, ", ")
}

func isSQLState(s string) bool {
	if len(s) != 5 {
		return false
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

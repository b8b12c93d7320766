package stack

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/exec"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

const secretPathInCluster = "/api/v1/namespaces/prod-app/secrets/shop-secrets"

// fakePsql remembers what would have been run in the database's pod.
type fakePsql struct {
	argv    [][]string
	scripts []string
	stderr  string
	err     error
}

func (f *fakePsql) run(_ context.Context, namespace, pod, container string, argv []string, stdin io.Reader) ([]byte, []byte, error) {
	script, err := io.ReadAll(stdin)
	if err != nil {
		return nil, nil, err
	}
	f.argv = append(f.argv, append([]string{namespace, pod, container}, argv...))
	f.scripts = append(f.scripts, string(script))
	return nil, []byte(f.stderr), f.err
}

// moveScripts is how many scripts a move of the secrets runs: the services' login,
// what the rotator works with, its login, and the end of what is left of another.
const moveScripts = 4

func newShopBench(t *testing.T) (*bench, *fakePsql) {
	t.Helper()
	b, psql := newBench(t), &fakePsql{}
	b.Env.exec = psql.run
	require.NoError(t, vault{}.Install(t.Context(), b.Env))
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	return b, psql
}

func storedKey(t *testing.T, b *bench, key string) string {
	t.Helper()
	data, _ := b.cluster.get(secretPathInCluster)["data"].(object)
	text, _ := data[key].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return string(raw)
}

var passwordInScript = regexp.MustCompile(`\\set password '([A-Z2-7]{26})'`)

func passwordOf(t *testing.T, script string) string {
	t.Helper()
	m := passwordInScript.FindStringSubmatch(script)
	require.NotNil(t, m, "the script sets a password")
	return m[1]
}

func TestTheShopsSecretIsMadeOnceAndOfRandomText(t *testing.T) {
	b, _ := newShopBench(t)
	password, payment := storedKey(t, b, "db-password"), storedKey(t, b, "payment-key")
	require.Equal(t, "shop", storedKey(t, b, "db-user"))
	require.Regexp(t, "^[A-Z2-7]{26}$", password)
	require.Regexp(t, "^[A-Z2-7]{26}$", payment)
	require.NotEqual(t, password, payment)
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Equal(t, password, storedKey(t, b, "db-password"), "a second install keeps it")
	require.NotContains(t, b.said.String(), password)
	require.NotContains(t, b.said.String(), payment)
}

func TestMovedSecretsAreANewLoginThatOnlyVaultKnows(t *testing.T) {
	b, psql := newShopBench(t)
	require.NoError(t, MoveSecrets(t.Context(), b.Env))

	require.Len(t, psql.scripts, moveScripts)
	require.Equal(t, []string{"prod-app", "postgres-0", "postgres", "/bin/sh", "-c", `exec "$PG_BIN/psql" "$@"`, "psql",
		"--host=/var/run/postgresql", "--username=postgres", "--dbname=shop",
		"--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"}, psql.argv[0])
	password := passwordOf(t, psql.scripts[0])
	require.Contains(t, psql.scripts[0], `\set login 'shop_vault'`)
	require.Contains(t, psql.scripts[0], `GRANT shop_app TO :"login"`)
	require.Less(t, strings.Index(psql.scripts[0], "log_statement = 'none'"), strings.Index(psql.scripts[0], password),
		"the database stops logging before it sees the password")

	for _, service := range shopchart.Services() {
		path := "secret/data/prod-app/" + service
		want := map[string]any{"db-user": "shop_vault", "db-password": password}
		if service == "payment-gateway" {
			want["payment-key"] = storedKey(t, b, "payment-key")
		}
		require.Equal(t, want, b.vault.body(path)["data"], service)
		require.Equal(t, testSetupToken, b.vault.tokens[path], "not with a root token")
	}
	rotator := passwordOf(t, psql.scripts[2])
	require.Contains(t, psql.scripts[1], "CREATE OR REPLACE FUNCTION rotation.renew")
	require.Contains(t, psql.scripts[2], `GRANT shop_rotation TO :"login"`)
	require.Contains(t, psql.scripts[3], "login NOT IN ('shop_vault', 'secret_rotator_a')")
	require.Equal(t, map[string]any{"db-user": "secret_rotator_a", "db-password": rotator}, b.vault.body("secret/data/prod-app/secret-rotator")["data"])
	require.NotContains(t, b.said.String()+b.cluster.text(), rotator)
	require.True(t, b.vault.revoked[testSetupToken])
	ca := b.cluster.get("/api/v1/namespaces/prod-app/configmaps/vault-ca")
	require.Equal(t, string(b.vault.ca), ca["data"].(object)["ca.crt"])
	require.NotEqual(t, password, storedKey(t, b, "db-password"))
	require.NotContains(t, b.said.String()+b.cluster.text(), password, "Kubernetes never has it")
	require.NotContains(t, b.cluster.text(), base64.StdEncoding.EncodeToString([]byte(password)))
	noSecrets(t, b, nil)
}

func TestAFailedMoveTellsAnErrorCodeAndNoSecret(t *testing.T) {
	b, psql := newShopBench(t)
	psql.err = exec.CodeExitError{Err: errors.New("command terminated with exit code 3"), Code: 3}
	psql.stderr = "psql:<stdin>:8: ERROR:  42501\nLINE 1: ALTER ROLE x PASSWORD 'hunter2'\n"
	err := MoveSecrets(t.Context(), b.Env)
	require.EqualError(t, err, "make database login shop_vault: psql ended with code 3: ERROR: 42501")
	require.Nil(t, b.vault.body("secret/data/prod-app/order-processing"), "Vault gets nothing that does not work")
}

func TestOnlyErrorCodesOfPsqlAreTold(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"one code":                      {"psql:<stdin>:8: ERROR:  42501\n", "ERROR: 42501"},
		"a text in the place of a code": {"ERROR:  role \"hunter2\" exists\n", "no SQLSTATE given"},
		"a connection that is refused":  {"psql: error: connection to server failed: FATAL:  28000\n", "FATAL: 28000"},
		"nothing":                       {"", "no SQLSTATE given"},
		"five letters that are no code": {"ERROR:  abcde\n", "no SQLSTATE given"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, sqlErrors([]byte(tc.in))) })
	}
}

func FuzzSQLErrors(f *testing.F) {
	f.Add("psql:<stdin>:8: ERROR:  42501\nLINE 1: 'hunter2'\n")
	f.Add("FATAL: ERROR: 42501")
	f.Fuzz(func(t *testing.T, in string) {
		out := sqlErrors([]byte(in))
		if out == "no SQLSTATE given" {
			return
		}
		for _, part := range strings.Split(out, ", ") {
			severity, code, _ := strings.Cut(part, " ")
			if !slices.Contains([]string{"ERROR:", "FATAL:"}, severity) || !isSQLState(code) {
				t.Fatalf("%q came out of %q", part, in)
			}
		}
	})
}

func TestRetiredSecretsLeaveNothingToLogInWith(t *testing.T) {
	b, psql := newShopBench(t)
	require.NoError(t, MoveSecrets(t.Context(), b.Env))
	require.NoError(t, RetireSecrets(t.Context(), b.Env))
	require.Contains(t, psql.scripts[moveScripts], `\set login 'shop'`)
	require.Contains(t, psql.scripts[moveScripts], "NOLOGIN PASSWORD NULL")
	require.Empty(t, storedKey(t, b, "db-password"))
	require.Empty(t, storedKey(t, b, "payment-key"))
	require.ErrorContains(t, MoveSecrets(t.Context(), b.Env), "were the secrets moved already?")

	// The shop that reads Vault is rolled on; the Secret stays empty.
	b.Env.Values = map[string]map[string]any{"shop": {"secrets": map[string]any{"source": "vault"}}}
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Len(t, psql.scripts, moveScripts+1)
	require.Empty(t, storedKey(t, b, "db-password"))
}

func TestAShopThatGoesBackToFilesGetsAWorkingLoginAgain(t *testing.T) {
	b, psql := newShopBench(t)
	before := storedKey(t, b, "db-password")
	require.NoError(t, MoveSecrets(t.Context(), b.Env))
	require.NoError(t, RetireSecrets(t.Context(), b.Env))
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Len(t, psql.scripts, moveScripts+2)
	password := passwordOf(t, psql.scripts[moveScripts+1])
	require.Contains(t, psql.scripts[moveScripts+1], `\set login 'shop'`)
	require.Equal(t, password, storedKey(t, b, "db-password"), "the Secret and the database agree")
	require.NotEqual(t, before, password)
	require.NotEmpty(t, storedKey(t, b, "payment-key"))
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Len(t, psql.scripts, moveScripts+2, "once is enough")
}

func TestReadsFiles(t *testing.T) {
	all := func(source string) map[string]any {
		services := map[string]any{}
		for _, s := range shopchart.Services() {
			services[s] = map[string]any{"secretsSource": source}
		}
		return services
	}
	mixed := all("vault")
	mixed["order-processing"] = map[string]any{"secretsSource": ""}
	tests := map[string]struct {
		values map[string]any
		want   bool
	}{
		"by default they do":                  {map[string]any{}, true},
		"all are told to read Vault":          {map[string]any{"secrets": map[string]any{"source": "vault"}}, false},
		"each is told to read Vault":          {map[string]any{"services": all("vault")}, false},
		"one of them is not":                  {map[string]any{"services": mixed}, true},
		"one goes back to files":              {map[string]any{"secrets": map[string]any{"source": "vault"}, "services": map[string]any{"order-processing": map[string]any{"secretsSource": "file"}}}, true},
		"one without a word follows the rest": {map[string]any{"secrets": map[string]any{"source": "vault"}, "services": map[string]any{"order-processing": map[string]any{"inject": true}}}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, readsFiles(tc.values)) })
	}
}

package probes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

var auditBegin = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)

// auditLines are lines as Vault's file device writes them, shortened.
var auditLines = map[string]string{
	"a server's own word": `2026-05-04T09:00:01.000Z [INFO]  core: vault is unsealed`,
	"a request":           `{"auth":{"client_token":"hmac-sha256:aa","display_name":"kubernetes-prod-app-order-processing","metadata":{"role":"order-processing"}},"request":{"client_token":"hmac-sha256:bb","id":"r1","mount_type":"kv","operation":"read","path":"secret/data/prod-app/order-processing"},"time":"2026-05-04T09:00:02.5Z","type":"request"}`,
	"its answer":          `{"auth":{"client_token":"hmac-sha256:aa","display_name":"kubernetes-prod-app-order-processing","entity_id":"e-1","metadata":{"role":"order-processing"}},"request":{"client_token":"hmac-sha256:bb","id":"r1","mount_type":"kv","operation":"read","path":"secret/data/prod-app/order-processing","remote_address":"10.0.0.7"},"response":{"data":{"data":{"db-password":"hmac-sha256:cc","db-user":"hmac-sha256:dd"},"metadata":{"version":1}}},"time":"2026-05-04T09:00:02.6Z","type":"response"}`,
	"a login":             `{"auth":{"client_token":"hmac-sha256:ee","metadata":{"role":"cert-manager"}},"request":{"data":{"jwt":"hmac-sha256:ff","role":"hmac-sha256:00"},"id":"r2","mount_type":"kubernetes","operation":"update","path":"auth/kubernetes/login","remote_address":"10.0.0.9"},"response":{"auth":{"client_token":"hmac-sha256:ee"}},"time":"2026-05-04T09:00:03Z","type":"response"}`,
	"a refusal":           `{"error":"1 error occurred:\n\t* permission denied\n\n","auth":{"client_token":"hmac-sha256:11","metadata":{"role":"cert-manager"}},"request":{"client_token":"hmac-sha256:11","id":"r3","mount_type":"pki","operation":"update","path":"pki/sign/linkerd","remote_address":"10.0.0.9"},"time":"2026-05-04T09:00:04Z","type":"response"}`,
	"a login in vain":     `{"request":{"data":{"jwt":"hmac-sha256:ff","role":"hmac-sha256:22"},"id":"r5","mount_type":"kubernetes","operation":"update","path":"auth/kubernetes/login","remote_address":"10.0.0.8"},"response":{"data":{"error":"hmac-sha256:33"}},"time":"2026-05-04T09:00:06Z","type":"response"}`,
	"a failure":           `{"error":"unsupported path","request":{"client_token":"hmac-sha256:11","id":"r4","operation":"read","path":"nowhere/hvs.CAESIJabcdefgh","remote_address":"10.0.0.9"},"time":"2026-05-04T09:00:05Z","type":"response"}`,
}

type auditTold struct {
	at int64
	e  results.Event
}

func newTestBook(now time.Duration) (*AuditBook, *[]auditTold) {
	told := &[]auditTold{}
	first := true
	return NewAuditBook(func(t time.Time) int64 { return int64(t.Sub(auditBegin)) }, func() int64 {
		if first {
			first = false
			return 0
		}
		return int64(now)
	}, func(at int64, e results.Event) { *told = append(*told, auditTold{at, e}) }, func(address string) string {
		return map[string]string{"10.0.0.9": "cert-manager/cert-manager-1"}[address]
	}), told
}

func TestVaultsAuditLogIsReducedToWhoDidWhat(t *testing.T) {
	b, told := newTestBook(time.Minute)
	for _, name := range []string{"a server's own word", "a request", "its answer", "a login", "a refusal", "a failure", "a login in vain", "its answer", "a refusal"} {
		at, ok := b.Take([]byte(auditLines[name] + "\n"))
		require.Equal(t, name != "a server's own word", ok, name)
		require.Equal(t, ok, !at.IsZero())
	}
	require.Equal(t, results.VaultAudit{From: 0, To: int64(time.Minute), Requests: 5, Denied: 1, Failed: 2, Uses: []results.VaultUse{
		{Operation: "update", Path: "auth/kubernetes/login", Error: "an error that the log keeps hashed", Count: 1},
		{Operation: "update", Path: "auth/kubernetes/login", Role: "cert-manager", Count: 1},
		{Operation: "read", Path: "nowhere/(hidden)", Error: "unsupported path", Count: 1},
		{Operation: "update", Path: "pki/sign/linkerd", Role: "cert-manager", Error: "1 error occurred: * permission denied", Count: 1},
		{Operation: "read", Path: "secret/data/prod-app/order-processing", Role: "order-processing", Count: 1},
	}}, b.Seen(), "what is read again counts once")
	require.Len(t, *told, 5)
	require.Equal(t, auditTold{int64(2600 * time.Millisecond), results.Event{Kind: results.Vault, Name: "read secret/data/prod-app/order-processing", Fields: map[string]string{
		"state": "served", "operation": "read", "path": "secret/data/prod-app/order-processing", "role": "order-processing", "entity": "e-1"}}}, (*told)[0])
	require.Equal(t, auditTold{int64(4 * time.Second), results.Event{Kind: results.Vault, Name: "update pki/sign/linkerd", Detail: "1 error occurred: * permission denied", Fields: map[string]string{
		"state": "denied", "operation": "update", "path": "pki/sign/linkerd", "role": "cert-manager", "client": "cert-manager/cert-manager-1"}}}, (*told)[2])
	require.Equal(t, results.StateFailed, (*told)[3].e.Fields["state"])
	require.Equal(t, []string{results.StateFailed, "10.0.0.8"}, []string{(*told)[4].e.Fields["state"], (*told)[4].e.Fields["client"]}, "nobody knows whose address that is")
}

func TestNothingOfASecretIsKept(t *testing.T) {
	b, told := newTestBook(time.Minute)
	for _, line := range auditLines {
		b.Take([]byte(line))
	}
	kept, err := json.Marshal([]any{b.Seen(), fmt.Sprint(*told)})
	require.NoError(t, err)
	for _, never := range []string{"hmac-sha256", "hvs.", "db-password"} {
		require.NotContains(t, string(kept), never)
	}
}

func TestWhatVaultDoesNotHashIsNoticed(t *testing.T) {
	for name, line := range map[string]string{
		"a token":              strings.Replace(auditLines["a refusal"], "hmac-sha256:11", "hvs.CAESIJabcdefgh", 1),
		"a request's token":    strings.Replace(auditLines["a request"], "hmac-sha256:bb", "hvs.CAESIJabcdefgh", 1),
		"the token of a login": strings.Replace(auditLines["a login"], `"response":{"auth":{"client_token":"hmac-sha256:ee`, `"response":{"auth":{"client_token":"hvs.CAESIJ`, 1),
		"a secret":             strings.Replace(auditLines["its answer"], "hmac-sha256:cc", "hunter2", 1),
	} {
		t.Run(name, func(t *testing.T) {
			b, told := newTestBook(time.Minute)
			_, ok := b.Take([]byte(line))
			require.True(t, ok)
			require.Equal(t, int64(1), b.Seen().Clear)
			kept := fmt.Sprint(b.Seen(), *told)
			require.NotContains(t, kept, "hvs.")
			require.NotContains(t, kept, "hunter2")
		})
	}
	b, _ := newTestBook(time.Minute)
	for _, line := range auditLines {
		b.Take([]byte(line))
	}
	require.Zero(t, b.Seen().Clear)
}

func TestTheBookStaysBounded(t *testing.T) {
	b, told := newTestBook(time.Hour)
	line := func(n int, why string) []byte {
		return fmt.Appendf(nil, `{"error":%q,"request":{"id":"%d","operation":"read","path":"p/%d"},"time":"2026-05-04T09:00:02Z","type":"response"}`, why, n, n%(mostUses+5))
	}
	const served, denied = mostEvents + 100, mostInVain + 7
	for n := range served {
		b.Take(line(n, ""))
	}
	for n := range denied {
		b.Take(line(served+n, "permission denied"))
	}
	seen := b.Seen()
	require.Equal(t, []int64{served + denied, denied, 7}, []int64{seen.Requests, seen.Denied, seen.Untold})
	require.Len(t, seen.Uses, mostUses)
	require.Len(t, *told, mostEvents+mostInVain)
	total := seen.Others
	for _, u := range seen.Uses {
		total += u.Count
	}
	require.Equal(t, seen.Requests, total)
	require.LessOrEqual(t, len(b.recent), recentAnswers)
}

func TestAnInstantOutsideTheRunIsPutToItsEdge(t *testing.T) {
	b, told := newTestBook(3 * time.Second)
	b.Take([]byte(auditLines["a refusal"]))                                                                        // at 4 s, by a clock that goes before
	b.Take([]byte(strings.Replace(auditLines["its answer"], "2026-05-04T09:00:02.6Z", "2026-05-04T08:59:59Z", 1))) // and before the run
	require.Equal(t, []int64{int64(3 * time.Second), 0}, []int64{(*told)[0].at, (*told)[1].at})
}

func TestAnEntryThatCannotBeReadIsMissed(t *testing.T) {
	b, _ := newTestBook(time.Minute)
	_, ok := b.Take([]byte(`{"request":{"id":5},"type":"response","time":"2026-05-04T09:00:02Z"}`))
	require.False(t, ok)
	b.Miss("another thing")
	b.Miss("another thing")
	require.Equal(t, []string{"an entry cannot be read", "another thing"}, b.Seen().Missed)
}

func FuzzAuditBook(f *testing.F) {
	for _, line := range auditLines {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"type":"response","request":{"path":"secret/data/x","mount_type":"kv","data":{"data":[{"a":1}]}},"time":"2026-05-04T09:00:02Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		b, told := newTestBook(time.Minute)
		_, ok := b.Take(line)
		if seen := b.Seen(); !ok && (seen.Requests > 0 || len(*told) > 0) {
			t.Errorf("%q is no entry, and counts as one", line)
		}
	})
}

package probes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/results"
)

// How much of Vault's audit log is kept.
const (
	mostUses      = 200  // kinds of requests
	mostEvents    = 2000 // requests that were served
	mostInVain    = 1000 // and more of those that were not
	mostAuditText = 160  // characters of a path or an error
	recentAnswers = 8192 // by which a line that is read again is known
)

// AuditBook reduces Vault's audit log to who did what, line by line. Its methods
// may be called from several goroutines.
type AuditBook struct {
	at   func(time.Time) int64 // nanoseconds since the run's start
	now  func() int64
	tell func(int64, results.Event)
	who  func(address string) string

	mu     sync.Mutex
	seen   results.VaultAudit
	uses   map[results.VaultUse]int64 // without their counts
	told   int
	inVain int
	recent map[string]bool
	order  []string // of recent, a ring
	next   int
}

// NewAuditBook makes an empty book. at turns Vault's time into the run's; tell
// takes an event and its instant; who names whom an address belongs to, "" when
// nobody knows.
func NewAuditBook(at func(time.Time) int64, now func() int64, tell func(int64, results.Event), who func(string) string) *AuditBook {
	return &AuditBook{
		at: at, now: now, tell: tell, who: who, uses: map[results.VaultUse]int64{},
		recent: map[string]bool{}, order: make([]string, recentAnswers), seen: results.VaultAudit{From: now()},
	}
}

// auditEntry is what is needed of a line of the log. Values are looked at only to
// see that they are hashed.
type auditEntry struct {
	Time  time.Time  `json:"time"`
	Type  string     `json:"type"`
	Error string     `json:"error"`
	Auth  *auditAuth `json:"auth"`
	// Request and Response hold what came and what went.
	Request struct {
		ID          string    `json:"id"`
		Operation   string    `json:"operation"`
		Path        string    `json:"path"`
		ClientToken string    `json:"client_token"`
		RemoteAddr  string    `json:"remote_address"`
		MountType   string    `json:"mount_type"`
		Data        auditData `json:"data"`
	} `json:"request"`
	Response struct {
		Auth *auditAuth `json:"auth"`
		Data auditData  `json:"data"`
	} `json:"response"`
}

type auditAuth struct {
	ClientToken string            `json:"client_token"`
	DisplayName string            `json:"display_name"`
	EntityID    string            `json:"entity_id"`
	Metadata    map[string]string `json:"metadata"`
}

// auditData is the data of a secret in a kv-v2 engine, or an answer that says
// no: its error is hashed.
type auditData struct {
	Data  json.RawMessage `json:"data"`
	Error string          `json:"error"`
}

// Take reads one line of the pod's log, in which Vault's own words stand too. It
// returns the entry's time; ok is false for a line that is none.
func (b *AuditBook) Take(line []byte) (at time.Time, ok bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' {
		return at, false
	}
	var e auditEntry
	if err := json.Unmarshal(line, &e); err != nil {
		if bytes.Contains(line, []byte(`"request"`)) {
			b.Miss("an entry cannot be read")
		}
		return at, false
	}
	if e.Type != "request" && e.Type != "response" || e.Time.IsZero() || e.Request.Path == "" {
		return at, false
	}
	b.take(e)
	return e.Time, true
}

// Miss notes that a part of the log may not have been read.
func (b *AuditBook) Miss(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.seen.Missed, why) && len(b.seen.Missed) < 10 {
		b.seen.Missed = append(b.seen.Missed, why)
	}
}

func (b *AuditBook) take(e auditEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isNew(e.Type + e.Request.ID) {
		return
	}
	if e.readable() {
		b.seen.Clear++
	}
	if e.Type != "response" {
		return // its answer follows
	}
	if e.Error == "" && strings.HasPrefix(e.Response.Data.Error, hashed) {
		e.Error = hashedError
	}
	use := results.VaultUse{Operation: e.Request.Operation, Path: withoutSecrets(e.Request.Path), Role: e.role(), Error: withoutSecrets(e.Error)}
	b.seen.Requests++
	state := results.StateServed
	switch {
	case strings.Contains(e.Error, "permission denied"):
		state = results.StateDenied
		b.seen.Denied++
	case e.Error != "":
		state = results.StateFailed
		b.seen.Failed++
	}
	if _, known := b.uses[use]; known || len(b.uses) < mostUses {
		b.uses[use]++
	} else {
		b.seen.Others++
	}
	b.event(e, use, state)
}

// event tells of a request, as long as there is room.
func (b *AuditBook) event(e auditEntry, use results.VaultUse, state string) {
	room, told := mostEvents, &b.told
	if state != results.StateServed {
		room, told = mostInVain, &b.inVain
	}
	if *told >= room {
		if state == results.StateDenied {
			b.seen.Untold++
		}
		return
	}
	*told++
	fields := map[string]string{results.FieldState: state, results.FieldOperation: use.Operation, results.FieldPath: use.Path}
	add := func(key, v string) {
		if v != "" {
			fields[key] = v
		}
	}
	add(results.FieldRole, use.Role)
	if e.Auth != nil {
		add(results.FieldEntity, e.Auth.EntityID)
	}
	if state != results.StateServed {
		add(results.FieldClient, cmp.Or(b.who(e.Request.RemoteAddr), e.Request.RemoteAddr))
	}
	b.tell(min(max(b.at(e.Time), b.seen.From), b.now()), results.Event{
		Kind: results.Vault, Name: use.Operation + " " + use.Path, Detail: use.Error, Fields: fields,
	})
}

// isNew tells whether something was not taken before.
func (b *AuditBook) isNew(id string) bool {
	if b.recent[id] {
		return false
	}
	delete(b.recent, b.order[b.next])
	b.recent[id], b.order[b.next] = true, id
	b.next = (b.next + 1) % len(b.order)
	return true
}

// Seen returns what was taken so far.
func (b *AuditBook) Seen() results.VaultAudit {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.seen
	seen.To, seen.Uses, seen.Missed = b.now(), make([]results.VaultUse, 0, len(b.uses)), slices.Clone(b.seen.Missed)
	for use, n := range b.uses {
		use.Count = n
		seen.Uses = append(seen.Uses, use)
	}
	slices.SortFunc(seen.Uses, func(a, b results.VaultUse) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Operation, b.Operation),
			cmp.Compare(a.Role, b.Role), cmp.Compare(a.Error, b.Error))
	})
	return seen
}

// role is the role of Kubernetes auth that a token is of, or what else Vault
// calls it. A login that failed has none: what it asked for is hashed.
func (e auditEntry) role() string {
	if e.Auth == nil {
		return ""
	}
	return short(cmp.Or(e.Auth.Metadata["role"], e.Auth.Metadata["role_name"], e.Auth.DisplayName))
}

const (
	hashed = "hmac-sha256:"
	// hashedError stands for what Vault answered with status 400, such as to a
	// login of a role that there is not.
	hashedError = "an error that the log keeps hashed"
)

// readable tells whether a token, or a secret of the shop, stands there as it is.
func (e auditEntry) readable() bool {
	tokens := []string{e.Request.ClientToken}
	for _, a := range []*auditAuth{e.Auth, e.Response.Auth} {
		if a != nil {
			tokens = append(tokens, a.ClientToken)
		}
	}
	if slices.ContainsFunc(tokens, inClear) {
		return true
	}
	return e.Request.MountType == "kv" && strings.Contains(e.Request.Path, "/data/") &&
		(textInClear(e.Request.Data.Data) || textInClear(e.Response.Data.Data))
}

func inClear(s string) bool { return s != "" && !strings.HasPrefix(s, hashed) }

// textInClear tells whether any text in a value is not hashed.
func textInClear(raw json.RawMessage) bool {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return false
	}
	return anyInClear(v)
}

func anyInClear(v any) bool {
	switch v := v.(type) {
	case string:
		return inClear(v)
	case []any:
		return slices.ContainsFunc(v, anyInClear)
	case map[string]any:
		for _, inner := range v {
			if anyInClear(inner) {
				return true
			}
		}
	}
	return false
}

// secretLike is what Vault's tokens and Kubernetes' look like. Neither belongs in
// a path or an error, but a client may put one there.
var secretLike = regexp.MustCompile(`\b(hv[sbr]\.[\w-]{6,}|[sbr]\.[A-Za-z0-9]{20,}|eyJ[\w-]{6,}(\.[\w-]+)*)`)

// withoutSecrets is a text of the log on one line, in short.
func withoutSecrets(s string) string {
	return short(secretLike.ReplaceAllString(strings.Join(strings.Fields(s), " "), "(hidden)"))
}

func short(s string) string {
	if r := []rune(s); len(r) > mostAuditText {
		return string(r[:mostAuditText]) + "…"
	}
	return s
}

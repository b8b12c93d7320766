//go:build conformance

package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/call"
)

// issuerScenes put issuers of the suite's own in the place of cert-manager's.
func issuerScenes() []scene {
	return []scene{
		{
			name: "issuer", prepare: ownTrust,
			rows: []row{
				{
					id: "I3", says: "The issuer is held against the ConfigMap's anchors, not the Secret's ca.crt",
					expected: "an issuer of the ConfigMap's anchor is taken although ca.crt is another", check: staleCA,
				},
				{
					id: "I2", says: "An issuer from a root that identity does not hold is skipped",
					expected: "event IssuerUpdateSkipped; leaves still come from the old issuer", check: foreignIssuer,
				},
				{
					id: "I4", says: "Each rotation of the issuer is taken, without a restart",
					expected: "IssuerUpdated and a fresh leaf of the new issuer, three times; identity's pod is the same", within: 5 * time.Minute, check: rotations,
				},
				{
					id: "I6", says: "An issuer that is not valid yet is not used",
					expected: "event IssuerUpdateSkipped; leaves still come from the old issuer", check: futureIssuer,
				},
				{
					id: "I9", says: "An issuer that is RSA or not P-256 is never used",
					expected: "no proxy shows a leaf of it", within: 7 * time.Minute, check: weakIssuers,
				},
				{
					id: "I5c", says: "A leaf never outlives its issuer",
					expected: "below an issuer of 10 min a leaf ends with it", check: clampedLeaf,
				},
			},
		},
		{name: "lifetime", rows: []row{
			{
				id: "I5", says: "Leaves are renewed at 70 % of their life",
				expected: "with issuanceLifetime 60s, two expiries in a row are 0.6 to 0.8 of a life apart; calls do not fail meanwhile", within: 6 * time.Minute, check: renewals,
			},
			{
				id: "I5b", says: "With identity away for longer than a leaf's life, calls fail until it is back",
				expected: "identity_cert_expiration_timestamp_seconds < now; calls to a server that was not called before fail; answered after",
				within:   8 * time.Minute, check: expiredLeaves,
			},
		}},
	}
}

// ownTrust puts the mesh on an anchor and an issuer of the suite's own, with a
// server and two clients on it.
func ownTrust(ctx context.Context, l *lab) error {
	var err error
	if l.anchor, err = newAnchor("conformance root"); err != nil {
		return err
	}
	if l.issuer, err = l.anchor.issuer("P-256", lasting(12*time.Hour)); err != nil {
		return err
	}
	if err := l.trust(ctx, l.issuer, l.anchor); err != nil {
		return err
	}
	return l.up(ctx, l.server("web", meshed), l.client("stranger"))
}

// trust makes identity sign with an issuer and trust these anchors.
func (l *lab) trust(ctx context.Context, issuer *authority, anchors ...*authority) error {
	if err := l.ownIssuer(ctx); err != nil {
		return err
	}
	if err := l.putIssuer(ctx, issuer, anchors[0].certPEM()); err != nil {
		return err
	}
	return l.upgrade(ctx, trusting(anchors...))
}

func trusting(anchors ...*authority) map[string]any {
	var bundle [][]byte
	for _, a := range anchors {
		bundle = append(bundle, a.certPEM())
	}
	return map[string]any{"identityTrustAnchorsPEM": join(bundle...)}
}

// kubeletPatience is how long a Secret may take to reach a pod.
const kubeletPatience = 100 * time.Second

// freshLeaf restarts the server, so that its proxy asks for a new leaf, and
// tells who signed it.
func (l *lab) freshLeaf(ctx context.Context) (*x509.Certificate, error) {
	if err := l.restart(ctx, "web"); err != nil {
		return nil, err
	}
	s, err := l.leafOf(ctx, "stranger", "web")
	if err != nil {
		return nil, err
	}
	return s.chain[0], nil
}

func (a *authority) signed(leaf *x509.Certificate) bool {
	return leaf.CheckSignatureFrom(a.cert) == nil
}

func staleCA(ctx context.Context, l *lab) (string, error) {
	other, err := newAnchor("stale root")
	if err != nil {
		return "", err
	}
	next, err := l.anchor.issuer("P-256", lasting(12*time.Hour))
	if err != nil {
		return "", err
	}
	l.began = time.Now()
	if err := l.putIssuer(ctx, next, other.certPEM()); err != nil {
		return "", err
	}
	if _, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdated", "", kubeletPatience); err != nil {
		return "", err
	}
	leaf, err := l.freshLeaf(ctx)
	if err != nil {
		return "", err
	}
	if !next.signed(leaf) {
		return "IssuerUpdated", errors.New("the fresh leaf is not the new issuer's")
	}
	l.issuer = next
	return "ca.crt of another root; IssuerUpdated, and a fresh leaf of the new issuer", nil
}

// skipped puts an issuer in that must not be used, and looks at a fresh leaf.
func (l *lab) skipped(ctx context.Context, bad *authority, ca []byte) (string, error) {
	l.began = time.Now()
	if err := l.putIssuer(ctx, bad, ca); err != nil {
		return "", err
	}
	e, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdateSkipped", "", kubeletPatience)
	if err != nil {
		return "", err
	}
	seen := e.Reason + ": " + e.Message
	leaf, err := l.freshLeaf(ctx)
	if err != nil {
		return seen, err
	}
	if !l.issuer.signed(leaf) {
		return seen, errors.New("the fresh leaf is not the old issuer's")
	}
	return seen + "; a fresh leaf comes from the old issuer", nil
}

func foreignIssuer(ctx context.Context, l *lab) (string, error) {
	root, err := newAnchor("foreign root")
	if err != nil {
		return "", err
	}
	bad, err := root.issuer("P-256", lasting(time.Hour))
	if err != nil {
		return "", err
	}
	return l.skipped(ctx, bad, root.certPEM())
}

func futureIssuer(ctx context.Context, l *lab) (string, error) {
	bad, err := l.anchor.issuer("P-256", validity{time.Now().Add(10 * time.Minute), time.Now().Add(5 * time.Hour)})
	if err != nil {
		return "", err
	}
	return l.skipped(ctx, bad, l.anchor.certPEM())
}

func rotations(ctx context.Context, l *lab) (string, error) {
	before, err := l.planePods(ctx, "identity")
	if err != nil {
		return "", err
	}
	seen := ""
	for n := range 3 {
		next, err := l.anchor.issuer("P-256", lasting(12*time.Hour))
		if err != nil {
			return seen, err
		}
		// Events of one reason and text are counted up, by the second.
		if err := sleepPastSecond(ctx); err != nil {
			return seen, err
		}
		l.began = time.Now()
		if err := l.putIssuer(ctx, next, l.anchor.certPEM()); err != nil {
			return seen, err
		}
		if _, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdated", "", kubeletPatience); err != nil {
			return seen, fmt.Errorf("rotation %d: %w", n+1, err)
		}
		leaf, err := l.freshLeaf(ctx)
		if err != nil {
			return seen, err
		}
		if !next.signed(leaf) {
			return seen, fmt.Errorf("rotation %d: the fresh leaf is not the new issuer's", n+1)
		}
		l.issuer = next
		seen += fmt.Sprintf("rotation %d: IssuerUpdated after %.0f s, fresh leaf of the new issuer; ", n+1, time.Since(l.began).Seconds())
	}
	after, err := l.planePods(ctx, "identity")
	if err != nil {
		return seen, err
	}
	if before != after {
		return seen, errors.New("identity's pod is another")
	}
	return seen + "the same pod", nil
}

func weakIssuers(ctx context.Context, l *lab) (string, error) {
	var seen string
	for _, kind := range []string{"RSA", "P-384"} {
		bad, err := l.anchor.issuer(kind, lasting(time.Hour))
		if err != nil {
			return seen, err
		}
		l.began = time.Now()
		if err := l.putIssuer(ctx, bad, l.anchor.certPEM()); err != nil {
			return seen, err
		}
		// Identity may refuse it, or sign with it what no proxy then takes.
		if e, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdateSkipped", "", kubeletPatience); err == nil {
			seen += kind + ": " + e.Message + "; "
		}
		if err := l.kube.Restart(ctx, "deployment", l.ns, "web"); err != nil {
			return seen, err
		}
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		rolled := l.kube.WaitRollout(limited, "deployment", l.ns, "web")
		cancel()
		s, err := l.leafOf(ctx, "stranger", "web")
		switch {
		case rolled != nil && err != nil:
			seen += kind + ": no proxy got a leaf; "
		case err != nil:
			return seen, err
		case bad.signed(s.chain[0]):
			return seen, fmt.Errorf("a proxy shows a leaf of the %s issuer", kind)
		default:
			seen += kind + ": the leaf is the old issuer's; "
		}
	}
	l.began = time.Now()
	return seen, l.putIssuer(ctx, l.issuer, l.anchor.certPEM())
}

func clampedLeaf(ctx context.Context, l *lab) (string, error) {
	brief, err := l.anchor.issuer("P-256", lasting(10*time.Minute))
	if err != nil {
		return "", err
	}
	l.began = time.Now()
	if err := l.putIssuer(ctx, brief, l.anchor.certPEM()); err != nil {
		return "", err
	}
	if _, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdated", "", kubeletPatience); err != nil {
		return "", err
	}
	leaf, err := l.freshLeaf(ctx)
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("the issuer ends at %s, the leaf at %s", brief.cert.NotAfter.UTC().Format(time.TimeOnly), leaf.NotAfter.UTC().Format(time.TimeOnly))
	if leaf.NotAfter.After(brief.cert.NotAfter) {
		return seen, errors.New("the leaf outlives its issuer")
	}
	if !brief.signed(leaf) {
		return seen, errors.New("the leaf is not that issuer's")
	}
	return seen, nil
}

// expiry is the metric of a workload's proxy.
func (l *lab) expiry(ctx context.Context, app string) (time.Time, error) {
	m, err := l.scrapeApp(ctx, app)
	if err != nil {
		return time.Time{}, err
	}
	seconds := m.Match("identity_cert_expiration_timestamp_seconds").Sum()
	return time.Unix(int64(seconds), 0), nil
}

func renewals(ctx context.Context, l *lab) (string, error) {
	const life, skew = 60 * time.Second, 5 * time.Second
	if err := l.plane(ctx, shortLived(life, skew)); err != nil {
		return "", err
	}
	if err := l.up(ctx, l.server("web", meshed), l.client("caller", meshed)); err != nil {
		return "", err
	}
	load := l.startCalls(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/"), Rate: 5, Count: 5 * 130, Fresh: true})
	// The life that counts is what is left of a leaf when it is got.
	lasts := (life + skew).Seconds()
	var expiries []time.Time
	err := eventually(ctx, 3*time.Minute, func(ctx context.Context) error {
		at, err := l.expiry(ctx, "web")
		if err != nil {
			return err
		}
		if len(expiries) == 0 || !at.Equal(expiries[len(expiries)-1]) {
			expiries = append(expiries, at)
		}
		if len(expiries) < 3 {
			return fmt.Errorf("%d leaves so far", len(expiries))
		}
		return nil
	})
	got, callErr := load.wait()
	if err := errors.Join(err, callErr); err != nil {
		return "", err
	}
	seen := "renewed after"
	for i := 1; i < len(expiries); i++ {
		part := expiries[i].Sub(expiries[i-1]).Seconds() / lasts
		seen += fmt.Sprintf(" %.2f", part)
		if part < 0.6 || part > 0.8 {
			return seen, errors.New("that is not 70 %")
		}
	}
	return seen + " of a life; meanwhile " + got.String(), got.all(answered)
}

func shortLived(life, skew time.Duration) map[string]any {
	return map[string]any{"identity": map[string]any{"issuer": map[string]any{
		"issuanceLifetime": life.String(), "clockSkewAllowance": skew.String(),
	}}}
}

func expiredLeaves(ctx context.Context, l *lab) (string, error) {
	if err := l.plane(ctx, shortLived(20*time.Second, 5*time.Second)); err != nil {
		return "", err
	}
	if err := l.up(ctx, l.server("new", guarded(authenticated)), l.client("worn", meshed)); err != nil {
		return "", err
	}
	back, err := l.absent(ctx, "linkerd-identity")
	if err != nil {
		return "", err
	}
	err = eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		for _, app := range []string{"new", "worn"} {
			at, err := l.expiry(ctx, app)
			if err != nil {
				return err
			}
			if left := time.Until(at); left > -time.Second {
				return fmt.Errorf("the leaf of %s has %s left", app, left)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	o := call.Options{Target: at("http", "new", portHTTP, "/"), Count: 5, Fresh: true}
	failed, err := l.call(ctx, "worn", o)
	if err == nil {
		err = failed.all(failing)
	}
	seen := fmt.Sprintf("both leaves expired: %s", failed)
	if err != nil {
		return seen, err
	}
	if err := back(ctx); err != nil {
		return seen, err
	}
	var again calls
	err = eventually(ctx, time.Minute, func(ctx context.Context) error {
		if again, err = l.call(ctx, "worn", o); err != nil {
			return err
		}
		return again.all(answered)
	})
	return seen + fmt.Sprintf("; identity back: %s", again), err
}

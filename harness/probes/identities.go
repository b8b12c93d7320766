package probes

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/leaf"
	"meshsim.dev/meshsim/results"
)

// Dialer opens a connection to a pod's port; the kube client does so through
// the API server.
type Dialer interface {
	Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
}

// Serials are the certificates that pods have shown, by the pod's uid.
type Serials map[string]serial

// serial is the certificate that a pod showed last, and whether it showed
// another one before.
type serial struct {
	last    string
	renewed bool
}

const (
	inboundPort = 4143
	// shakesAtOnce is gentle: the shop serves customers meanwhile.
	shakesAtOnce  = 2
	shakePatience = 10 * time.Second
)

// Identities shakes hands with the proxy of each of the shop's pods and looks at
// the certificate that it presents: its name against the pod's service account,
// its chain against the anchors in the mesh's ConfigMap, its life, its key. It
// is renewed when the pod presented another one at any look before, by seen, which
// it brings up to date.
func Identities(ctx context.Context, client kubernetes.Interface, dial Dialer, seen Serials) (results.Identity, error) {
	all := results.Identity{Presented: []results.Presented{}, Silent: []string{}}
	anchors, err := trustAnchors(ctx, client)
	if err != nil {
		return all, err
	}
	pods, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: shopPods})
	if err != nil {
		return all, fmt.Errorf("list the shop's pods: %w", err)
	}
	meshed := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning || !stack.Meshed(&p)
	})
	shown, failed := make([]results.Presented, len(meshed)), make([]error, len(meshed))
	group := &errgroup.Group{}
	group.SetLimit(shakesAtOnce)
	for i := range meshed {
		group.Go(func() error {
			shown[i], failed[i] = presentedBy(ctx, &meshed[i], dial, anchors)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return all, err
	}
	all.Proxies = len(meshed)
	for i, p := range shown {
		if failed[i] != nil {
			all.Silent = append(all.Silent, fmt.Sprintf("%s: %v", meshed[i].Name, failed[i]))
			continue
		}
		uid := string(meshed[i].UID)
		p.UID = uid
		before, ok := seen[uid]
		renewed := ok && (before.renewed || before.last != p.Serial)
		if ok {
			p.Renewed = &renewed
		}
		seen[uid] = serial{p.Serial, renewed}
		all.Presented = append(all.Presented, p)
	}
	return all, nil
}

func trustAnchors(ctx context.Context, client kubernetes.Interface) ([]*x509.Certificate, error) {
	roots, err := client.CoreV1().ConfigMaps(meshNamespace).Get(ctx, trustRootsName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the trust anchors: %w", err)
	}
	anchors, err := parseCertificates([]byte(roots.Data[trustRootsKey]))
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s key %s: %w", meshNamespace, trustRootsName, trustRootsKey, err)
	}
	return anchors, nil
}

// IdentityName is what a proxy is called that runs under a service account.
func IdentityName(serviceAccount, namespace string) string {
	return fmt.Sprintf("%s.%s.serviceaccount.identity.%s.%s", serviceAccount, namespace, meshNamespace, stack.TrustDomain)
}

// presentedBy is what one pod's proxy presents.
func presentedBy(ctx context.Context, pod *corev1.Pod, dial Dialer, anchors []*x509.Certificate) (results.Presented, error) {
	p := results.Presented{Pod: pod.Name, Expected: IdentityName(pod.Spec.ServiceAccountName, pod.Namespace)}
	ctx, cancel := context.WithTimeout(ctx, shakePatience)
	defer cancel()
	conn, err := dial.Dial(ctx, pod.Namespace, pod.Name, inboundPort)
	if err != nil {
		return p, err
	}
	defer conn.Close()
	shown, err := leaf.Shake(ctx, conn, p.Expected)
	if err != nil {
		return p, err
	}
	chain, err := parseCertificates([]byte(shown.Chain))
	if err != nil {
		return p, err
	}
	p.Version = shown.Version
	describeLeaf(&p, chain, anchors, time.Now())
	return p, nil
}

func describeLeaf(p *results.Presented, chain, anchors []*x509.Certificate, now time.Time) {
	cert := chain[0]
	err := verifyChain(chain, anchors, now)
	chains := err == nil
	p.Identity, p.Chains = strings.Join(cert.DNSNames, ","), &chains
	if err != nil {
		p.Why = err.Error()
	}
	p.From, p.Until, p.Serial = cert.NotBefore.UTC(), cert.NotAfter.UTC(), cert.SerialNumber.Text(16)
	p.Key = keyName(cert)
}

// keyName is a certificate's key as budgets name it: ecdsa-p256, rsa-2048.
func keyName(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(key.Curve.Params().Name, "-", ""))
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", key.N.BitLen())
	}
	return strings.ToLower(cert.PublicKeyAlgorithm.String())
}

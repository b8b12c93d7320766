package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack/vaultapi"
)

// vaultDoor is a way to Vault's pod: TLS to the server itself, through the API
// server, with the server's certificate checked against Vault's own CA.
type vaultDoor struct {
	*vaultapi.Client
	transport *http.Transport
}

// callWithin bounds one call; a Vault that elects or seals may not answer at all.
const callWithin = 30 * time.Second

func openVault(ctx context.Context, env *Env) (*vaultDoor, error) {
	ca, err := vaultCA(ctx, env)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("secret %s/%s holds no CA certificate", NamespaceVault, vaultTLSSecret)
	}
	dial := env.dialVault
	if dial == nil {
		dial = func(ctx context.Context) (net.Conn, error) {
			return env.Kube.Dial(ctx, NamespaceVault, vaultPod, vaultPort)
		}
	}
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		TLSClientConfig:     &tls.Config{RootCAs: pool, ServerName: vaultServerName, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
	}
	client := &http.Client{Transport: transport, Timeout: callWithin}
	return &vaultDoor{Client: vaultapi.New(vaultAddress, client), transport: transport}, nil
}

// Close ends the connection.
func (d *vaultDoor) Close() { d.transport.CloseIdleConnections() }

// vaultCA is the PEM of the CA that Vault's server certificate comes from.
func vaultCA(ctx context.Context, env *Env) ([]byte, error) {
	secret, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceVault).Get(ctx, vaultTLSSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the certificate of Vault's CA: %w", err)
	}
	ca := secret.Data["ca.crt"]
	if len(ca) == 0 {
		return nil, fmt.Errorf("secret %s/%s has no ca.crt", NamespaceVault, vaultTLSSecret)
	}
	return ca, nil
}

// vaultVisit is an open door with a token of the setup role.
type vaultVisit struct {
	*vaultapi.Client
	door *vaultDoor
}

// enterVault logs in as meshsim's own service account. The token lives for
// minutes; Leave ends it.
func enterVault(ctx context.Context, env *Env) (*vaultVisit, error) {
	door, err := openVault(ctx, env)
	if err != nil {
		return nil, err
	}
	seconds := int64(setupTokenLife.Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{vaultAudience}, ExpirationSeconds: &seconds,
	}}
	answer, err := env.Kube.Clientset.CoreV1().ServiceAccounts(NamespaceVault).
		CreateToken(ctx, setupAccount, request, metav1.CreateOptions{})
	if err != nil {
		door.Close()
		return nil, fmt.Errorf("ask for a token of %s/%s: %w", NamespaceVault, setupAccount, err)
	}
	client, err := door.Login(ctx, kubernetesAuth, setupRole, answer.Status.Token)
	if err != nil {
		door.Close()
		return nil, err
	}
	return &vaultVisit{Client: client, door: door}, nil
}

// Leave revokes the token and closes the door.
func (v *vaultVisit) Leave(ctx context.Context) error {
	defer v.door.Close()
	if err := v.RevokeSelf(ctx); err != nil {
		return fmt.Errorf("give the token of role %s back: %w", setupRole, err)
	}
	return nil
}

// inVault does something with a token of the setup role.
func inVault(ctx context.Context, env *Env, do func(*vaultapi.Client) error) error {
	visit, err := enterVault(ctx, env)
	if err != nil {
		return fmt.Errorf("enter Vault: %w", err)
	}
	// The token is given back even when ctx has ended meanwhile.
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	defer cancel()
	return errors.Join(do(visit.Client), visit.Leave(leave))
}

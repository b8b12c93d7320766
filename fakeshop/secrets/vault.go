package secrets

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Vault reads secrets from a kv-v2 path of HashiCorp Vault, logging in with the
// pod's Kubernetes token for each reading and leaving no token behind.
type Vault struct {
	Addr      string // https://host:port
	CACert    string // PEM file that Vault's certificate is checked against; "": the system's
	Role      string // of auth/kubernetes
	Path      string // secret/data/…
	TokenFile string // the pod's token, audience vault
}

// answerLimit is the most that is read of an answer.
const answerLimit = 1 << 20

// Read logs in, reads the path and revokes its own token.
func (v Vault) Read(ctx context.Context) (map[string]string, error) {
	kv := KV{Vault: v}
	defer kv.Leave(ctx)
	stored, err := kv.Read(ctx, v.Path)
	return stored.Values, err
}

// visit is a stay in Vault: a token of the role, and the client that calls with it.
type visit struct {
	vault  Vault
	client *http.Client
	token  string
	half   time.Time // of the token's life; zero: it has no end
}

// enter logs in.
func (v Vault) enter(ctx context.Context) (*visit, error) {
	client, err := v.client()
	if err != nil {
		return nil, err
	}
	jwt, err := os.ReadFile(v.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading the pod's token: %w", err)
	}
	var login struct {
		Auth struct {
			ClientToken string `json:"client_token"`
			Seconds     int    `json:"lease_duration"`
		} `json:"auth"`
	}
	stay, began := &visit{vault: v, client: client}, time.Now()
	body := map[string]string{"role": v.Role, "jwt": strings.TrimSpace(string(jwt))}
	if err := stay.call(ctx, http.MethodPost, "auth/kubernetes/login", body, &login); err != nil {
		client.CloseIdleConnections()
		return nil, fmt.Errorf("logging in to Vault as %s: %w", v.Role, err)
	}
	stay.token = login.Auth.ClientToken
	if life := time.Duration(login.Auth.Seconds) * time.Second; life > 0 {
		stay.half = began.Add(life / 2)
	}
	return stay, nil
}

func (v *visit) stale() bool { return !v.half.IsZero() && time.Now().After(v.half) }

// leave gives the token back, at best: one that is not ends with its lease.
func (v *visit) leave(ctx context.Context) {
	_ = v.call(context.WithoutCancel(ctx), http.MethodPost, "auth/token/revoke-self", nil, nil)
	v.client.CloseIdleConnections()
}

func (v Vault) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if v.CACert != "" {
		pem, err := os.ReadFile(v.CACert)
		if err != nil {
			return nil, fmt.Errorf("reading Vault's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading Vault's CA: no certificate in %s", v.CACert)
		}
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 1}}, nil
}

// call asks Vault's API. Errors carry Vault's own words, which hold no secrets.
func (v *visit) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(v.vault.Addr, "/")+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	if v.token != "" {
		req.Header.Set("X-Vault-Token", v.token)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var said struct {
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(data, &said) // without words the status must do
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(strings.Join(said.Errors, "; ")))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the answer: not the JSON that was expected") // its text may hold a secret
	}
	return nil
}

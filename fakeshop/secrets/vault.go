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
	stored, err := KV{v}.Read(ctx, v.Path)
	return stored.Values, err
}

// visit does something with a token of the role, and leaves none behind.
func (v Vault) visit(ctx context.Context, do func(ask) error) error {
	client, err := v.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	jwt, err := os.ReadFile(v.TokenFile)
	if err != nil {
		return fmt.Errorf("reading the pod's token: %w", err)
	}
	var login struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	body := map[string]string{"role": v.Role, "jwt": strings.TrimSpace(string(jwt))}
	if err := v.call(ctx, client, http.MethodPost, "auth/kubernetes/login", "", body, &login); err != nil {
		return fmt.Errorf("logging in to Vault as %s: %w", v.Role, err)
	}
	token := login.Auth.ClientToken
	defer func() {
		// Best effort: an unrevoked token ends with its lease.
		_ = v.call(context.WithoutCancel(ctx), client, http.MethodPost, "auth/token/revoke-self", token, nil, nil)
	}()
	return do(func(method, path string, in, out any) error { return v.call(ctx, client, method, path, token, in, out) })
}

// ask is a call of Vault's API with a token.
type ask func(method, path string, in, out any) error

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
func (v Vault) call(ctx context.Context, client *http.Client, method, path, token string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(v.Addr, "/")+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := client.Do(req)
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

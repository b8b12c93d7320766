package vaultapi

import (
	"context"
	"errors"
	"net/http"
)

// SealStatus is what Vault says of itself to anybody.
type SealStatus struct {
	Type        string `json:"type"`
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
}

// SealStatus asks whether Vault is initialised and unsealed.
func (c *Client) SealStatus(ctx context.Context) (SealStatus, error) {
	var s SealStatus
	err := c.Do(ctx, http.MethodGet, "sys/seal-status", nil, &s)
	return s, err
}

// Active returns nil when Vault is initialised, unsealed and serves requests.
func (c *Client) Active(ctx context.Context) error {
	return c.Do(ctx, http.MethodGet, "sys/health", nil, nil)
}

// Init initialises a Vault with a KMS seal and returns its root token. The
// recovery keys, which a KMS seal has in the place of unseal keys, are dropped.
func (c *Client) Init(ctx context.Context) (rootToken string, err error) {
	var answer struct {
		RootToken string `json:"root_token"`
	}
	in := map[string]int{"recovery_shares": 1, "recovery_threshold": 1}
	if err := c.Do(ctx, http.MethodPut, "sys/init", in, &answer); err != nil {
		return "", err
	}
	if answer.RootToken == "" {
		return "", errors.New("vault PUT sys/init: no root token in the answer")
	}
	return answer.RootToken, nil
}

// Login trades a Kubernetes service account token for a Vault token of a role.
func (c *Client) Login(ctx context.Context, mount, role, jwt string) (*Client, error) {
	var answer struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	path := "auth/" + mount + "/login"
	if err := c.Do(ctx, http.MethodPost, path, map[string]string{"role": role, "jwt": jwt}, &answer); err != nil {
		return nil, err
	}
	if answer.Auth.ClientToken == "" {
		return nil, errors.New("vault POST " + path + ": no token in the answer")
	}
	return c.With(answer.Auth.ClientToken), nil
}

// RevokeSelf ends the client's own token.
func (c *Client) RevokeSelf(ctx context.Context) error {
	return c.Do(ctx, http.MethodPost, "auth/token/revoke-self", nil, nil)
}

// Mounted returns the paths of the secrets engines, each with a "/" at its end.
func (c *Client) Mounted(ctx context.Context) (map[string]bool, error) {
	return c.paths(ctx, "sys/mounts")
}

// AuthMounted returns the paths of the auth methods, each with a "/" at its end.
func (c *Client) AuthMounted(ctx context.Context) (map[string]bool, error) {
	return c.paths(ctx, "sys/auth")
}

// Audited returns the paths of the audit devices, each with a "/" at its end.
func (c *Client) Audited(ctx context.Context) (map[string]bool, error) {
	return c.paths(ctx, "sys/audit")
}

func (c *Client) paths(ctx context.Context, path string) (map[string]bool, error) {
	var answer struct {
		Data map[string]any `json:"data"`
	}
	if err := c.Do(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for name := range answer.Data {
		found[name] = true
	}
	return found, nil
}

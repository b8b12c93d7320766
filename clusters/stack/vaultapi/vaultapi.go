// Package vaultapi speaks the few calls of Vault's HTTP API that setting one
// up takes. A token and what is read or written never appear in an error.
package vaultapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Client speaks to one Vault. The zero token is good for calls that need none.
type Client struct {
	base  string
	http  *http.Client
	token string
}

// New speaks to the Vault at base (https://name:8200) through http.
func New(base string, http *http.Client) *Client {
	return &Client{base: strings.TrimRight(base, "/"), http: http}
}

// With returns a client that shows a token.
func (c *Client) With(token string) *Client {
	with := *c
	with.token = token
	return &with
}

// String keeps the token out of logs.
func (c *Client) String() string { return "vault at " + c.base }

// GoString keeps the token out of logs.
func (c *Client) GoString() string { return c.String() }

// Error is an answer of Vault other than success.
type Error struct {
	Method, Path string
	Status       int
	Messages     []string // Vault's own; it does not repeat secrets in them
}

func (e *Error) Error() string {
	text := fmt.Sprintf("vault %s %s: %d", e.Method, e.Path, e.Status)
	if len(e.Messages) > 0 {
		text += ": " + strings.Join(e.Messages, "; ")
	}
	return text
}

// StatusOf returns the HTTP status of Vault's refusal in err's chain, or 0.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// maxAnswer bounds what is read of an answer; real ones are a few KiB.
const maxAnswer = 1 << 20

// Do sends in (nil: no body) as JSON to /v1/path and decodes the answer into
// out (nil: it is not looked at).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	raw, err := c.send(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		// encoding/json's errors may quote the answer.
		return fmt.Errorf("vault %s %s: the answer is not what was expected", method, path)
	}
	return nil
}

// Raw is Do for a path that answers with something other than JSON.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	return c.send(ctx, http.MethodGet, path, nil)
}

func (c *Client) send(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("vault %s %s: encode: %w", method, path, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/v1/"+path, body)
	if err != nil {
		return nil, fmt.Errorf("vault %s %s: %w", method, path, err)
	}
	// Vault refuses requests that a browser could have been tricked into.
	req.Header.Set("X-Vault-Request", "true")
	if c.token != "" {
		req.Header.Set("X-Vault-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("vault %s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("vault %s %s: %w", method, path, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(method, path, resp.StatusCode, raw)
	}
	return raw, nil
}

func refusal(method, path string, status int, raw []byte) error {
	var answer struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(raw, &answer) // a proxy's answer is not JSON; the status says enough
	messages := make([]string, len(answer.Errors))
	for i, m := range answer.Errors {
		messages[i] = strings.Join(strings.Fields(m), " ")
	}
	return &Error{Method: method, Path: path, Status: status, Messages: messages}
}

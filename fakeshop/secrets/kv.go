package secrets

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Stored is a secret as a kv-v2 engine of Vault keeps it. It prints as nothing.
type Stored struct {
	Values  map[string]string
	Version int       // of the newest, counted from 1
	Written time.Time // when that was, by Vault's clock
	// Custom is what its keepers wrote beside it; it is no secret.
	Custom map[string]string
}

// String keeps secrets out of logs.
func (Stored) String() string { return "secrets.Stored(hidden)" }

// GoString keeps secrets out of logs.
func (Stored) GoString() string { return "secrets.Stored(hidden)" }

// LogValue keeps secrets out of logs.
func (Stored) LogValue() slog.Value { return slog.StringValue("hidden") }

// KV is a kv-v2 engine of Vault for who may write in it, too. Its first call logs
// in, later ones use that token until half of its life is over, and Leave gives it
// back. Paths are as Vault's own: secret/data/…. It is for one goroutine.
type KV struct {
	Vault Vault
	visit *visit // nil: not logged in
}

// Leave gives the token back, if there is one. A later call logs in again.
func (k *KV) Leave(ctx context.Context) {
	if k.visit != nil {
		k.visit.leave(ctx)
		k.visit = nil
	}
}

func (k *KV) call(ctx context.Context, method, path string, in, out any) error {
	if k.visit != nil && k.visit.stale() {
		k.Leave(ctx)
	}
	if k.visit == nil {
		visit, err := k.Vault.enter(ctx)
		if err != nil {
			return err
		}
		k.visit = visit
	}
	return k.visit.call(ctx, method, path, in, out)
}

// Read returns the newest version.
func (k *KV) Read(ctx context.Context, path string) (Stored, error) {
	var secret struct {
		Data struct {
			Data     map[string]string `json:"data"`
			Metadata struct {
				Version int               `json:"version"`
				Written time.Time         `json:"created_time"`
				Custom  map[string]string `json:"custom_metadata"`
			} `json:"metadata"`
		} `json:"data"`
	}
	if err := k.call(ctx, http.MethodGet, path, nil, &secret); err != nil {
		return Stored{}, fmt.Errorf("reading %s from Vault: %w", path, err)
	}
	d := secret.Data
	return Stored{Values: d.Data, Version: d.Metadata.Version, Written: d.Metadata.Written, Custom: d.Metadata.Custom}, nil
}

// Write makes a new version, if the newest is still the one of the number over.
func (k *KV) Write(ctx context.Context, path string, values map[string]string, over int) error {
	body := map[string]any{"options": map[string]int{"cas": over}, "data": values}
	if err := k.call(ctx, http.MethodPost, path, body, nil); err != nil {
		return fmt.Errorf("writing %s into Vault over version %d: %w", path, over, err)
	}
	return nil
}

// Describe replaces what is written beside a secret.
func (k *KV) Describe(ctx context.Context, path string, custom map[string]string) error {
	path = strings.Replace(path, "/data/", "/metadata/", 1)
	if err := k.call(ctx, http.MethodPost, path, map[string]any{"custom_metadata": custom}, nil); err != nil {
		return fmt.Errorf("writing %s into Vault: %w", path, err)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/rotation"
	"meshsim.dev/meshsim/fakeshop/secrets"
)

// rotateSettings are what the environment says to `fakeshop rotate`, beside
// SHOP_DB_…, SHOP_NAMESPACE, SHOP_LOG and VAULT_… as services know them:
//
//	ROTATE_PERIOD                              how old a secret may become (720h)
//	ROTATE_LEAD                                how long before that it is renewed (48h)
//	ROTATE_TAKE_UP                             within what time every service reads Vault again (11m)
//	ROTATE_PATIENCE                            how long sessions of old logins are waited for (20m)
//	VAULT_BASE                                 the secrets (secret/data/<namespace>)
//	SHOP_PROXY_ADMIN                           URL of the admin port of the mesh's proxy beside it: it is
//	                                           asked to end, as it would never do so by itself (none)
type rotateSettings struct {
	rotator  rotation.Rotator
	proxy    string
	logLevel slog.Level
}

// readRotateSettings reports everything wrong at once.
func readRotateSettings(now bool, env func(string) string) (rotateSettings, error) {
	r := reader{env: env}
	namespace := r.text("SHOP_NAMESPACE", "prod-app")
	port := r.port("SHOP_DB_PORT", 5432)
	vault := secrets.Vault{
		Addr: r.text("VAULT_ADDR", ""), CACert: r.text("VAULT_CACERT", ""), Role: r.text("VAULT_ROLE", rotation.Name),
		TokenFile: r.text("VAULT_TOKEN_FILE", "/var/run/secrets/vault/token"),
	}
	if vault.Addr == "" {
		r.wrong = append(r.wrong, errors.New("VAULT_ADDR is missing"))
	}
	o := rotation.Options{
		Base: r.text("VAULT_BASE", "secret/data/"+namespace), Services: chart.Services(), Now: now,
		Period: r.duration("ROTATE_PERIOD", 30*24*time.Hour), Lead: r.duration("ROTATE_LEAD", 2*24*time.Hour),
		TakeUp: r.duration("ROTATE_TAKE_UP", 11*time.Minute), Patience: r.duration("ROTATE_PATIENCE", 20*time.Minute),
	}
	if o.Lead >= o.Period && len(r.wrong) == 0 {
		r.wrong = append(r.wrong, fmt.Errorf("ROTATE_LEAD=%s: wants less than ROTATE_PERIOD, %s", o.Lead, o.Period))
	}
	if o.Patience < o.TakeUp && len(r.wrong) == 0 {
		r.wrong = append(r.wrong, fmt.Errorf("ROTATE_PATIENCE=%s: wants no less than ROTATE_TAKE_UP, %s", o.Patience, o.TakeUp))
	}
	s := rotateSettings{
		rotator: rotation.Rotator{
			Vault: &secrets.KV{Vault: vault}, Options: o,
			Database: rotation.Servers{
				Host: r.text("SHOP_DB_HOST", "postgres"), Port: port, Database: r.text("SHOP_DB_NAME", "shop"),
				ReplicaHost: r.text("SHOP_DB_READ_HOST", ""), ReplicaPort: port,
			},
		},
		proxy: r.text("SHOP_PROXY_ADMIN", ""), logLevel: r.level("SHOP_LOG"),
	}
	return s, errors.Join(r.wrong...)
}

// runRotation rotates once. Whatever comes of it, the proxy is asked to end: else
// the pod, and with it the Job, would never do so.
func runRotation(ctx context.Context, set rotateSettings, log *slog.Logger) error {
	if set.proxy != "" {
		defer endProxy(context.WithoutCancel(ctx), set.proxy, log)
	}
	set.rotator.Log = log
	return set.rotator.Run(ctx)
}

func endProxy(ctx context.Context, admin string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, admin+"/shutdown", http.NoBody)
	if err == nil {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = errors.New(resp.Status)
		}
	}
	log.Warn("the proxy could not be asked to end", "error", err) // there may be none, after all
}

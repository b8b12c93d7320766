package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// settings are what the environment says:
//
//	SHOP_DB_HOST, SHOP_DB_PORT, SHOP_DB_NAME   PostgreSQL (postgres, 5432, shop)
//	SHOP_DB_READ_HOST                          its replica, for what may be a little old (none)
//	SHOP_SECRETS                               file (default) or vault
//	SHOP_SECRETS_DIR                           files db-user, db-password, payment-key (/etc/shop-secrets)
//	SHOP_SECRETS_EVERY                         how often they are read again (1m for files, 5m for Vault)
//	VAULT_ADDR, VAULT_CACERT                   Vault and the CA of its certificate
//	VAULT_ROLE, VAULT_PATH                     (the service, secret/data/<namespace>/<service>)
//	VAULT_TOKEN_FILE                           the pod's token (/var/run/secrets/vault/token)
//	SHOP_NAMESPACE                             where the other services are (prod-app)
//	SHOP_TARGETS                               service=gRPC target, comma-separated: other places than that
//	SHOP_FAIL_FAST                             true: calls between services do not wait for a connection
//	SHOP_RETRIES                               how often an idempotent call is sent again whose connection broke (1)
//	SHOP_DRAIN                                 time to serve on after SIGTERM (5s); 0: cut at once
//	SHOP_HARD_STOP                             when running requests are cut, from SIGTERM (20s)
//	SHOP_POD, SHOP_NODE, SHOP_VERSION          who answers (the host's name, none, v1)
//	SHOP_RESERVATION                           how long stock is kept for an order that is not confirmed (15m)
//	SHOP_GIVE_UP                               when an order is cancelled whose payment cannot be resolved (10m)
//	SHOP_PROVIDER                              how the fake payment provider behaves: JSON, see payments.ProviderConfig
//	SHOP_BEHAVIOUR                             how the service misbehaves: JSON, see behaviour.Config
//	SHOP_HTTP, SHOP_GRPC_EDGE, SHOP_GRPC, SHOP_ADMIN   listen addresses (:8080, :9091, :9090, :8081)
//	SHOP_LOG                                   debug, info, warn or error (info)
type settings struct {
	service, pod, namespace       string
	node, version                 string
	http, edge, grpc, admin       string
	dbHost, dbReadHost, dbName    string
	dbPort                        uint16
	vault                         bool
	secretsDir                    string
	secretsEvery                  time.Duration
	vaultAddr, vaultCA, vaultRole string
	vaultPath, vaultToken         string
	targets                       map[string]string
	failFast                      bool
	retries                       int
	drain, hardStop               time.Duration
	keep, giveUp                  time.Duration
	provider                      payments.ProviderConfig
	behaviour                     behaviour.Config
	logLevel                      slog.Level
}

// readSettings reports everything wrong at once.
func readSettings(service string, env func(string) string) (settings, error) {
	host, _ := os.Hostname() // only the default of SHOP_POD
	r := reader{env: env}
	s := settings{
		service:    service,
		pod:        r.text("SHOP_POD", cmp.Or(host, "unknown")),
		node:       r.text("SHOP_NODE", ""),
		version:    r.text("SHOP_VERSION", "v1"),
		namespace:  r.text("SHOP_NAMESPACE", "prod-app"),
		http:       r.text("SHOP_HTTP", ":8080"),
		edge:       r.text("SHOP_GRPC_EDGE", ":9091"),
		grpc:       r.text("SHOP_GRPC", ":9090"),
		admin:      r.text("SHOP_ADMIN", ":8081"),
		dbHost:     r.text("SHOP_DB_HOST", "postgres"),
		dbReadHost: r.text("SHOP_DB_READ_HOST", ""),
		dbName:     r.text("SHOP_DB_NAME", "shop"),
		dbPort:     r.port("SHOP_DB_PORT", 5432),
		failFast:   r.boolean("SHOP_FAIL_FAST"),
		targets:    r.pairs("SHOP_TARGETS"),
		retries:    r.number("SHOP_RETRIES", 1, 4),
		drain:      r.duration("SHOP_DRAIN", 5*time.Second),
		hardStop:   r.duration("SHOP_HARD_STOP", 20*time.Second),
		keep:       r.duration("SHOP_RESERVATION", 15*time.Minute),
		giveUp:     r.duration("SHOP_GIVE_UP", 10*time.Minute),
		logLevel:   r.level("SHOP_LOG"),
	}
	var err error
	if s.provider, err = payments.ParseProvider(env("SHOP_PROVIDER")); err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("SHOP_PROVIDER: %w", err))
	}
	if s.behaviour, err = behaviour.Parse(env("SHOP_BEHAVIOUR")); err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("SHOP_BEHAVIOUR: %w", err))
	}
	r.secrets(&s)
	return s, errors.Join(r.wrong...)
}

func (r *reader) secrets(s *settings) {
	switch from := r.text("SHOP_SECRETS", "file"); from {
	case "file":
		s.secretsDir = r.text("SHOP_SECRETS_DIR", "/etc/shop-secrets")
		s.secretsEvery = r.duration("SHOP_SECRETS_EVERY", time.Minute)
	case "vault":
		s.vault = true
		s.vaultAddr = r.text("VAULT_ADDR", "")
		if s.vaultAddr == "" {
			r.wrong = append(r.wrong, errors.New("VAULT_ADDR is missing"))
		}
		s.vaultCA = r.text("VAULT_CACERT", "")
		s.vaultRole = r.text("VAULT_ROLE", s.service)
		s.vaultPath = r.text("VAULT_PATH", "secret/data/"+s.namespace+"/"+s.service)
		s.vaultToken = r.text("VAULT_TOKEN_FILE", "/var/run/secrets/vault/token")
		s.secretsEvery = r.duration("SHOP_SECRETS_EVERY", 5*time.Minute)
	default:
		r.wrong = append(r.wrong, fmt.Errorf("SHOP_SECRETS=%s: wants file or vault", from))
	}
	if s.secretsEvery <= 0 && len(r.wrong) == 0 {
		r.wrong = append(r.wrong, errors.New("SHOP_SECRETS_EVERY: wants more than 0"))
	}
}

type reader struct {
	env   func(string) string
	wrong []error
}

func (r *reader) text(name, otherwise string) string { return cmp.Or(r.env(name), otherwise) }

func (r *reader) port(name string, otherwise uint16) uint16 {
	text := r.env(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		r.wrong = append(r.wrong, fmt.Errorf("%s=%s: wants a port", name, text))
	}
	return uint16(n)
}

func (r *reader) number(name string, otherwise, most int) int {
	text := r.env(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		r.wrong = append(r.wrong, fmt.Errorf("%s=%s: wants a number from 0 to %d", name, text, most))
	}
	return n
}

func (r *reader) boolean(name string) bool {
	switch text := r.env(name); text {
	case "", "false":
		return false
	case "true":
		return true
	default:
		r.wrong = append(r.wrong, fmt.Errorf("%s=%s: wants true or false", name, text))
		return false
	}
}

func (r *reader) duration(name string, otherwise time.Duration) time.Duration {
	text := r.env(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		r.wrong = append(r.wrong, fmt.Errorf("%s=%s: wants a duration such as 5s", name, text))
	}
	return d
}

func (r *reader) level(name string) slog.Level {
	var l slog.Level
	if text := r.env(name); text != "" {
		if err := l.UnmarshalText([]byte(text)); err != nil {
			r.wrong = append(r.wrong, fmt.Errorf("%s=%s: wants debug, info, warn or error", name, text))
		}
	}
	return l
}

func (r *reader) pairs(name string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(r.env(name), ",") {
		if pair == "" {
			continue
		}
		service, target, ok := strings.Cut(pair, "=")
		if !ok || service == "" || target == "" {
			r.wrong = append(r.wrong, fmt.Errorf("%s: %q: wants service=target", name, pair))
			continue
		}
		out[service] = target
	}
	return out
}

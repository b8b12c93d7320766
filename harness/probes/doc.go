// Package probes looks at a running rehearsal from outside and writes down
// what it saw: pods without a proxy, calls by the proxies' own count, the
// issuer's certificate, the order ledger, what Vault and webhooks were asked for. A
// probe observes, it never judges.
package probes

package probes

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/results"
)

// SealStatus is what Vault says of its seal.
type SealStatus struct {
	Type        string `json:"type"` // awskms
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
}

// Pods answer for a path; the kube client's pod proxy is one way to reach them.
type Pods interface {
	PodGet(ctx context.Context, namespace, pod, path string) ([]byte, error)
}

// VaultPod is the pod of the rehearsal's Vault.
const (
	VaultNamespace = "vault"
	VaultPod       = "vault-0"
)

// AskSeal asks Vault's pod for its seal.
func AskSeal(ctx context.Context, pods Pods) (SealStatus, error) {
	var status SealStatus
	raw, err := pods.PodGet(ctx, VaultNamespace, "https:"+VaultPod+":8200", "/v1/sys/seal-status")
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal(raw, &status); err != nil {
		return status, fmt.Errorf("read Vault's seal status: %w", err)
	}
	return status, nil
}

// SealWatch asks Vault for its seal again and again, from its first answer on.
type SealWatch struct {
	pods  Pods
	every time.Duration
	now   func() int64 // ns since the run's start

	mu   sync.Mutex
	seen results.VaultSeal
}

// sealPatience is how long one answer may take: beyond it Vault is silent.
const sealPatience = 2 * time.Second

// NewSealWatch makes a watch that asks every so often.
func NewSealWatch(pods Pods, every time.Duration, now func() int64) *SealWatch {
	return &SealWatch{pods: pods, every: every, now: now}
}

// Run asks until ctx ends.
func (w *SealWatch) Run(ctx context.Context) {
	for {
		w.look(ctx)
		if pause.For(ctx, w.every) != nil {
			return
		}
	}
}

func (w *SealWatch) look(ctx context.Context) {
	at := w.now() // a state is as old as the question
	asking, cancel := context.WithTimeout(ctx, sealPatience)
	defer cancel()
	status, err := AskSeal(asking, w.pods)
	state := results.SealUnsealed
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		state = results.SealSilent
	case status.Sealed || !status.Initialized:
		state = results.SealSealed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.seen.States)
	switch {
	case n == 0 && state != results.SealUnsealed:
		return // it is still being installed
	case n == 0:
		w.seen.From = at
	}
	if n == 0 || w.seen.States[n-1].State != state {
		w.seen.States = append(w.seen.States, results.SealChange{At: at, State: state})
	}
	w.seen.To = w.now()
}

// Seen returns what was seen so far.
func (w *SealWatch) Seen() results.VaultSeal {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	seen.States = append([]results.SealChange{}, w.seen.States...)
	return seen
}

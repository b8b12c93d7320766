// Package calmlog keeps a log from being flooded: who makes a proxy write a
// line for each of his connections must not fill its node's disk.
package calmlog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// New passes on no more than perSecond lines of a second to next, warnings and
// errors too, and tells how many it left out.
func New(next slog.Handler, perSecond int) slog.Handler {
	return &handler{next: next, budget: &budget{most: perSecond, now: time.Now}}
}

type handler struct {
	next   slog.Handler
	budget *budget // shared by all that were made of one
}

type budget struct {
	most int
	now  func() time.Time

	mu      sync.Mutex
	second  int64
	passed  int
	leftOut int
}

// take says whether one more line fits, and how many were left out before it.
func (b *budget) take() (fits bool, leftOut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now().Unix(); now != b.second {
		b.second, b.passed = now, 0
	}
	if b.passed++; b.passed > b.most {
		b.leftOut++
		return false, 0
	}
	leftOut, b.leftOut = b.leftOut, 0
	return true, leftOut
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	fits, leftOut := h.budget.take()
	if !fits {
		return nil
	}
	if leftOut > 0 {
		told := slog.NewRecord(r.Time, slog.LevelWarn, "lines were left out of the log", 0)
		told.AddAttrs(slog.Int("lines", leftOut))
		if err := h.next.Handle(ctx, told); err != nil {
			return err
		}
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.budget}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.budget}
}

package calmlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFloodOfLinesIsCutAndTold(t *testing.T) {
	var out bytes.Buffer
	h, ok := New(slog.NewTextHandler(&out, nil), 3).(*handler)
	require.True(t, ok)
	now := time.Unix(100, 0)
	h.budget.now = func() time.Time { return now }
	log := slog.New(h)
	grouped := log.With("from", "elsewhere").WithGroup("g")
	for range 5 {
		log.Info("flood")
		grouped.Info("flood", "x", 1)
	}
	require.Equal(t, 3, strings.Count(out.String(), "msg=flood"), "what was made of it shares the limit")
	require.Contains(t, out.String(), "from=elsewhere g.x=1")
	require.NotContains(t, out.String(), "left out")
	now = now.Add(time.Second)
	log.Info("calm")
	log.Info("again")
	require.Equal(t, 1, strings.Count(out.String(), "left out of the log"))
	require.Contains(t, out.String(), "lines=7")
	require.Contains(t, out.String(), "msg=calm")
	require.Contains(t, out.String(), "msg=again")
}

func TestTheLevelIsThatOfTheLogBelow(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}), 10))
	log.Info("unheard")
	log.Warn("heard")
	require.NotContains(t, out.String(), "unheard")
	require.Contains(t, out.String(), "msg=heard")
}

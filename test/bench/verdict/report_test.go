package main

import (
	"bytes"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGoalsAreMetOnlyByAWholeRunInTimeAndMemory(t *testing.T) {
	r := report{Runs: []figures{
		{Kind: "good", Requests: 4_999_998, Seconds: 30, PeakBytes: 300 << 20},
		{Kind: "slow", Requests: 5_000_000, Seconds: 30.1, PeakBytes: 301 << 20},
		{Kind: "small", Requests: 600, Seconds: 1, PeakBytes: 1},
	}}
	r.judge()
	var met []bool
	for _, g := range r.Goals {
		met = append(met, g.Met)
	}
	require.Equal(t, []bool{true, true, false, false, false, false}, met)
	var out bytes.Buffer
	require.NoError(t, r.table(&out))
	require.Contains(t, out.String(), "missed  slow: at most 300 MiB resident: 301 MiB")
	require.Contains(t, out.String(), "missed  small: at most 30 s: 1.0 s, of too few requests")
	require.Contains(t, out.String(), "met     good: at most 30 s: 30.0 s")
}

func TestThePeakOfAProcessIsItsOwn(t *testing.T) {
	ballast := bytes.Repeat([]byte{1}, 64<<20) // of the parent
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	memory := watchPeak(child.Process.Pid)
	require.Eventually(t, func() bool { return memory.bytes.Load() > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, in.Close())
	require.NoError(t, child.Wait())
	require.Less(t, memory.end(), int64(len(ballast)))
}

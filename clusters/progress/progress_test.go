package progress

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPlainLinesTellStartEndAndTime(t *testing.T) {
	var out bytes.Buffer
	r, at := New(&out), time.Unix(0, 0)
	r.now = func() time.Time { return at }
	build := r.Start("build etcd")
	build.Detail("%d of %d", 1, 2)
	at = at.Add(1540 * time.Millisecond)
	build.Done("v3.5.13")
	load := r.Start("load images")
	r.Say("%d images", 10)
	load.Fail(errors.New("disk full"))
	require.Equal(t, "… build etcd\n✓ build etcd (1.5s): v3.5.13\n… load images\n10 images\n✗ load images (0s): disk full\n", out.String())
}

func TestTaskEndsOnce(t *testing.T) {
	var out bytes.Buffer
	r := New(&out)
	task := r.Start("once")
	task.Done("")
	task.Fail(errors.New("again"))
	require.NotContains(t, out.String(), "✗")
	require.Empty(t, r.active)
}

func TestLiveLineIsCutToTheTerminalAndRedrawnBelowLinesThatStay(t *testing.T) {
	var out bytes.Buffer
	r := &Reporter{w: &out, width: func() int { return 16 }, now: func() time.Time { return time.Unix(0, 0) }}
	task := r.Start("wait")
	task.Detail("3 of 7")
	r.Say("a note")
	task.Done("")
	require.Equal(t, "\r\x1b[K… wait 0s\r\x1b[K… wait 0s  3 of\r\x1b[Ka note\n\r\x1b[K… wait 0s  3 of\r\x1b[K✓ wait (0s)\n", out.String())
	require.Nil(t, r.tick, "nothing ticks when no task is left")
}

func TestManyGoroutinesMayReport(t *testing.T) {
	var out bytes.Buffer
	r := New(&out)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			task := r.Start("one")
			task.Detail("half")
			task.Done("")
		})
	}
	all.Wait()
	require.Equal(t, 20, bytes.Count(out.Bytes(), []byte("✓ one")))
}

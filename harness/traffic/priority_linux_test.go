package traffic

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The test runs itself again in a session of its own, so as not to change its own
// priority.
func TestEveryThreadOfTheSenderIsRaised(t *testing.T) {
	if os.Getenv("MESHSIM_TEST_RAISE") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Env = append(os.Environ(), "MESHSIM_TEST_RAISE=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	session := func() string {
		text, err := os.ReadFile(autogroup)
		if errors.Is(err, fs.ErrNotExist) {
			return "none" // a kernel without
		}
		require.NoError(t, err)
		_, nice, ok := strings.Cut(strings.TrimSpace(string(text)), " nice ")
		require.True(t, ok, "%s", text)
		return nice
	}
	before := session()
	lower, err := RaisePriority()
	if err != nil { // not everybody may, and not every sandbox's root
		require.ErrorIs(t, err, syscall.EACCES)
		require.ErrorContains(t, err, "raise the sender's priority")
		require.Equal(t, before, session())
		return
	}
	if before != "none" {
		require.Equal(t, strconv.Itoa(senderNice), session())
	}
	lower()
	require.Equal(t, before, session())
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(t, err)
		got, err := syscall.Getpriority(syscall.PRIO_PROCESS, id)
		require.NoError(t, err)
		require.Equal(t, 20-senderNice, got) // the kernel counts from 40 down to 1
	}
}

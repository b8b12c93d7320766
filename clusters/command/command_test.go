package command_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/command"
)

func TestOutputIsCapturedAndStreamed(t *testing.T) {
	var live bytes.Buffer
	out, err := command.Exec{}.Run(t.Context(), command.Cmd{
		Argv:   []string{"sh", "-c", `read line; echo "$line $WORD"; pwd; echo aside >&2`},
		Env:    []string{"WORD=world"},
		Dir:    "/",
		Stdin:  strings.NewReader("hello\n"),
		Stdout: &live,
	})
	require.NoError(t, err)
	require.Equal(t, "hello world\n/\n", string(out.Stdout))
	require.Equal(t, string(out.Stdout), live.String())
	require.Equal(t, "aside\n", string(out.Stderr))
}

func TestArgumentsAreNotShellWords(t *testing.T) {
	out, err := command.Exec{}.Run(t.Context(), command.Cmd{Argv: []string{"printf", "%s", "$HOME; *"}})
	require.NoError(t, err)
	require.Equal(t, "$HOME; *", string(out.Stdout))
}

func TestFailureNamesTheProgramItsCodeAndItsLastLines(t *testing.T) {
	_, err := command.Exec{}.Run(t.Context(), command.Cmd{Argv: []string{"sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i >&2; done; exit 7"}})
	failed, ok := errors.AsType[*command.Error](err)
	require.True(t, ok)
	require.Equal(t, 7, failed.ExitCode)
	require.ErrorContains(t, err, "exit status 7: line 2\nline 3\nline 4\nline 5\nline 6")
	require.NotContains(t, err.Error(), "line 1")
}

func TestProgramThatCannotStart(t *testing.T) {
	_, err := command.Exec{}.Run(t.Context(), command.Cmd{Argv: []string{"no-such-program-here"}})
	failed, ok := errors.AsType[*command.Error](err)
	require.True(t, ok)
	require.Equal(t, -1, failed.ExitCode)
	require.ErrorContains(t, err, "run no-such-program-here")

	_, err = command.Exec{}.Run(t.Context(), command.Cmd{})
	require.EqualError(t, err, "run: empty argv")
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the user pressed Ctrl-C")
	ended := make(chan error, 1)
	go func() {
		// The child ignores SIGTERM and holds standard output open.
		_, err := command.Exec{}.Run(ctx, command.Cmd{Argv: []string{"sh", "-c",
			`sh -c 'trap "" TERM; echo $$ > "$0.new"; mv "$0.new" "$0"; while :; do sleep 0.1; done' "$0" & wait`, pidFile}})
		ended <- err
	}()
	var pid int
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(raw)))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	cancel(stop)
	require.ErrorIs(t, <-ended, stop)
	require.Eventually(t, func() bool { return gone(pid) }, 10*time.Second, 10*time.Millisecond)
}

// gone tells whether no such process runs; one that waits to be reaped does not run.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(raw), ") Z ")
}

func TestFakeRecordsAndAnswers(t *testing.T) {
	fake := &command.Fake{Respond: func(c command.Cmd) (command.Output, error) {
		return command.Output{Stdout: []byte(c.Argv[1])}, nil
	}}
	out, err := fake.Run(t.Context(), command.Cmd{Argv: []string{"docker", "ps"}})
	require.NoError(t, err)
	require.Equal(t, "ps", string(out.Stdout))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = fake.Run(ctx, command.Cmd{Argv: []string{"docker", "rm"}})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"docker ps", "docker rm"}, fake.Lines())
}

package relay

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// again begins an attempt; nil when there can be none.
func again(b *replayBody) io.ReadCloser {
	a := &attemptBody{}
	if !b.next(a) {
		return nil
	}
	return a
}

func TestASecondAttemptReadsTheBodyFromItsBeginning(t *testing.T) {
	b := newReplayBody(io.NopCloser(strings.NewReader("the whole body")))
	first := again(b)
	part := make([]byte, 4)
	_, err := io.ReadFull(first, part)
	require.NoError(t, err)
	second := again(b)
	got, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Equal(t, "the whole body", string(got))
	_, err = first.Read(part)
	require.ErrorIs(t, err, errAttemptOver)
}

func TestABodyOverTheLimitIsPassedOnButNotReplayed(t *testing.T) {
	long := bytes.Repeat([]byte("x"), replayLimit+1)
	b := newReplayBody(io.NopCloser(bytes.NewReader(long)))
	got, err := io.ReadAll(again(b))
	require.NoError(t, err)
	require.Len(t, got, len(long))
	require.Nil(t, again(b))
}

func TestABodyOfJustTheLimitIsReplayed(t *testing.T) {
	long := bytes.Repeat([]byte("x"), replayLimit)
	b := newReplayBody(io.NopCloser(iotest.HalfReader(bytes.NewReader(long))))
	for range 3 {
		got, err := io.ReadAll(again(b))
		require.NoError(t, err)
		require.Len(t, got, len(long))
	}
}

func TestOnceTheRequestIsTakenNothingMoreIsKept(t *testing.T) {
	b := newReplayBody(io.NopCloser(strings.NewReader("abcdef")))
	a := again(b)
	_, err := io.ReadFull(a, make([]byte, 2))
	require.NoError(t, err)
	b.forget()
	rest, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "cdef", string(rest))
	require.Nil(t, again(b))
}

func TestForgettingLosesNothingThatIsNotReadYet(t *testing.T) {
	b := newReplayBody(io.NopCloser(strings.NewReader("abcdef")))
	_, err := io.ReadFull(again(b), make([]byte, 4))
	require.NoError(t, err)
	a := again(b) // has read nothing of what is kept
	b.forget()
	got, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(got))
}

func TestAnErrorOfTheBodyReachesEachAttempt(t *testing.T) {
	broken := errors.New("the client has gone")
	b := newReplayBody(io.NopCloser(io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken))))
	for range 2 {
		got, err := io.ReadAll(again(b))
		require.ErrorIs(t, err, broken)
		require.Equal(t, "ab", string(got))
	}
}

func TestWhatAnOldAttemptHadBegunToReadGoesToTheNewOne(t *testing.T) {
	r, w := io.Pipe()
	b := newReplayBody(r)
	first := again(b)
	over := make(chan error)
	go func() {
		_, err := first.Read(make([]byte, 100))
		over <- err
	}()
	require.Eventually(t, b.started, time.Second, time.Millisecond)
	second := again(b)
	go func() {
		_, _ = w.Write([]byte("hello"))
		w.Close()
	}()
	got, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.ErrorIs(t, <-over, errAttemptOver)
}

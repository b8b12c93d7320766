package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// webhook serves h until leave is called; ended gives how it ended.
func webhook(t *testing.T, h http.HandlerFunc, end ending) (url string, leave func(), ended chan error) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, leave := context.WithCancel(context.Background())
	t.Cleanup(leave)
	ended = make(chan error, 1)
	go func() { ended <- serveOn(ctx, l, h, end) }()
	return "http://" + l.Addr().String(), leave, ended
}

// post asks over a connection of its own.
func post(url string) (text string, closing bool, err error) {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Post(url, "application/json", nil)
	if err != nil {
		return "", false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), res.Close, err
}

func TestAReviewThatIsUnderWayIsAnsweredWhenItsPodEnds(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	url, leave, ended := webhook(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "allowed")
	}, ending{0, time.Minute})
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, _, err := post(url)
		answered <- answer{text, err}
	}()
	<-entered
	leave()
	select {
	case err := <-ended:
		require.Failf(t, "the server ended before its review", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	require.Equal(t, answer{"allowed", nil}, <-answered)
	require.NoError(t, <-ended)
}

func TestReviewsAreTakenUntilOthersKnowThatThePodEnds(t *testing.T) {
	const lasts = time.Second
	url, leave, ended := webhook(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "allowed")
	}, ending{lasts, time.Minute})
	_, closing, err := post(url)
	require.NoError(t, err)
	require.False(t, closing)
	left := time.Now()
	leave()
	text, closing, err := post(url)
	require.NoError(t, err)
	require.Equal(t, "allowed", text)
	require.True(t, closing, "the client is told to come back by another connection")
	require.NoError(t, <-ended)
	require.GreaterOrEqual(t, time.Since(left), lasts)
	_, _, err = post(url)
	require.ErrorContains(t, err, "connection refused")
}

func TestAReviewThatDoesNotEndIsCutInTheEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	url, leave, ended := webhook(t, func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}, ending{0, 50 * time.Millisecond})
	defer close(release)
	failed := make(chan error, 1)
	go func() {
		_, _, err := post(url)
		failed <- err
	}()
	<-entered
	leave()
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
	require.Error(t, <-failed)
}

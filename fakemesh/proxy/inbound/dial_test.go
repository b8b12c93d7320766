package inbound

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnApplicationThatDoesNotAnswerInTimeIsDialledAgain(t *testing.T) {
	late := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, tc := range map[string]struct {
		answers []error
		tries   int
		err     error
	}{
		"it answers":              {[]error{nil}, 1, nil},
		"it answers by and by":    {[]error{late, late, nil}, 3, nil},
		"it never answers":        {[]error{late, late, late, nil}, 3, os.ErrDeadlineExceeded},
		"it refuses":              {[]error{refused, nil}, 1, syscall.ECONNREFUSED},
		"it is there and refuses": {[]error{late, refused, nil}, 2, syscall.ECONNREFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			_, err := patiently(context.Background(), func() (net.Conn, error) {
				tries++
				return nil, tc.answers[tries-1]
			})
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.tries, tries)
		})
	}
}

func TestAnApplicationIsNotDialledAgainForARequestThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	tries := 0
	_, err := patiently(ctx, func() (net.Conn, error) {
		tries++
		cancel()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Equal(t, 1, tries)
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// A gRPC client hears of a stream that was reset what it would hear without a proxy.
func TestAStreamThatWasResetIsRefusedByItsReason(t *testing.T) {
	reset := func(code http2.ErrCode) error {
		return fmt.Errorf("round trip: %w", http2.StreamError{StreamID: 3, Code: code})
	}
	for name, c := range map[string]struct {
		err     error
		timeout string
		took    time.Duration
		code    string
		kind    string
	}{
		"called off":                             {reset(http2.ErrCodeCancel), "", time.Second, "1", "unexpected"},
		"called off before the client's time":    {reset(http2.ErrCodeCancel), "2S", time.Second, "1", "unexpected"},
		"called off when the client's time ends": {reset(http2.ErrCodeCancel), "300m", 300 * time.Millisecond, "4", "timeout"},
		"for any reason when it ends":            {reset(http2.ErrCodeInternal), "1000000u", time.Second, "4", "timeout"},
		"a longest time":                         {reset(http2.ErrCodeCancel), "99999999H", time.Hour, "1", "unexpected"},
		"a time that is none":                    {reset(http2.ErrCodeCancel), "-1S", time.Hour, "1", "unexpected"},
		"a unit that is none":                    {reset(http2.ErrCodeCancel), "1s", time.Hour, "1", "unexpected"},
		"a number that is too long":              {reset(http2.ErrCodeCancel), "100000000n", time.Hour, "1", "unexpected"},
		"refused":                                {reset(http2.ErrCodeRefusedStream), "", time.Second, "14", "unexpected"},
		"too much":                               {reset(http2.ErrCodeEnhanceYourCalm), "", time.Second, "8", "unexpected"},
		"broken":                                 {reset(http2.ErrCodeProtocol), "", time.Second, "13", "unexpected"},
		"a connection that was lost":             {errors.New("connection reset by peer"), "1S", 2 * time.Second, "14", "unexpected"},
		"the proxy's own time":                   {context.DeadlineExceeded, "", time.Second, "4", "timeout"},
		"failing fast after a reset":             {&Error{http.StatusServiceUnavailable, "failfast", reset(http2.ErrCodeCancel)}, "", time.Second, "14", "failfast"},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/shop.Stock/Get", nil)
			r.Header.Set("Content-Type", "application/grpc")
			if c.timeout != "" {
				r.Header.Set("Grpc-Timeout", c.timeout)
			}
			var told *Error
			(&Relay{W: w, R: r, Fail: func(e *Error) { told = e }}).refuse(nil, c.err, c.took)
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, c.code, w.Header().Get("Grpc-Status"))
			require.Equal(t, c.kind, told.Kind)
		})
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	f.Add("300m", int64(time.Second))
	f.Add("99999999H", int64(1)<<62)
	f.Add("0n", int64(0))
	f.Fuzz(func(t *testing.T, text string, took int64) {
		h := http.Header{"Grpc-Timeout": {text}}
		if took >= 0 && tookItsTime(h, time.Duration(took)) {
			require.LessOrEqual(t, len(text), 9, "eight digits and a unit")
			require.True(t, tookItsTime(h, time.Duration(max(took, took+1))), "a longer time is no shorter")
		}
	})
}

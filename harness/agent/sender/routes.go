package sender

import (
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
)

const bodyLimit = 1 << 20

func (a *agent) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.HelloPath, func(w http.ResponseWriter, _ *http.Request) {
		p := a.Plan
		answer(w, wire.Hello{Version: wire.Version, Run: p.Run, Group: p.Group, Index: p.Part.Index, Pod: a.Pod, Arch: runtime.GOARCH})
	})
	mux.HandleFunc("GET "+wire.ClockPath, func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		answer(w, wire.Clock{Mono: int64(now.Sub(a.epoch)), Wall: now.UnixNano()})
	})
	mux.HandleFunc("POST "+wire.StartPath, func(w http.ResponseWriter, r *http.Request) {
		var s wire.Start
		if asked(w, r, &s) {
			done(w, a.start(s))
		}
	})
	mux.HandleFunc("PUT "+wire.TimelinePath, func(w http.ResponseWriter, r *http.Request) {
		var next wire.Timeline
		if asked(w, r, &next) {
			done(w, a.replace(next))
		}
	})
	mux.HandleFunc("GET "+wire.RecordsPath, a.records)
	mux.HandleFunc("POST "+wire.TakenPath, func(w http.ResponseWriter, r *http.Request) {
		if offset, ok := offsetOf(w, r); ok {
			done(w, a.spool.forget(offset))
		}
	})
	mux.HandleFunc("POST "+wire.StopPath, func(w http.ResponseWriter, _ *http.Request) { done(w, a.stop()) })
	mux.HandleFunc("POST "+wire.LeavePath, func(w http.ResponseWriter, _ *http.Request) {
		done(w, nil)
		a.leave(errLeft)
	})
	return a.touched(mux)
}

// touched notes that somebody is there.
func (a *agent) touched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.contact = time.Now()
		a.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// records streams frames. A stream that cannot go on is cut off.
func (a *agent) records(w http.ResponseWriter, r *http.Request) {
	offset, ok := offsetOf(w, r)
	if !ok {
		return
	}
	a.reading(1)
	defer a.reading(-1)
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := a.spool.copyTo(r.Context(), w, offset, http.NewResponseController(w).Flush); err != nil {
		a.Log.Debug("the stream of results was cut", "error", err)
		panic(http.ErrAbortHandler) // net/http's way to end an answer without its end
	}
}

func (a *agent) reading(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readers += n
	a.contact = time.Now()
}

func offsetOf(w http.ResponseWriter, r *http.Request) (int64, bool) {
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		http.Error(w, "offset should be a number of bytes", http.StatusBadRequest)
		return 0, false
	}
	return offset, true
}

func asked(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyLimit)).Decode(into)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the other side has gone, and will ask again
}

func done(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		answer(w, struct{}{})
	case errors.Is(err, wire.ErrTooLate):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/websocket"
)

// Answer is what the HTTP side says, as JSON.
type Answer struct {
	Name    string      `json:"name"`
	Proto   string      `json:"proto"` // HTTP/1.1 or HTTP/2.0
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Headers http.Header `json:"headers"`
	Bytes   int64       `json:"bytes"` // of the request's body
}

// serveHTTP answers every path with an Answer, but for /status/CODE, which has
// that status, and /ws, which gives WebSocket messages back.
func serveHTTP(ctx context.Context, l net.Listener, name string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil || code < 200 || code > 599 {
			http.Error(w, "no status", http.StatusBadRequest)
			return
		}
		w.WriteHeader(code)
	})
	mux.Handle("/ws", websocket.Server{Handler: func(conn *websocket.Conn) {
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		_, _ = io.Copy(conn, conn) // ends with either side
	}})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { answer(w, r, name) })
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		done <- server.Shutdown(limited)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return <-done
}

func answer(w http.ResponseWriter, r *http.Request, name string) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Answer{ // a client that has gone needs no answer
		Name: name, Proto: r.Proto, Method: r.Method, Path: r.URL.Path, Headers: r.Header, Bytes: n,
	})
}

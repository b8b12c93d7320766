package alb

import (
	"net/http"
	"time"
)

// countingWriter remembers the status and the size of an answer.
type countingWriter struct {
	http.ResponseWriter
	proto   string
	status  int
	written int64
	at      time.Time // when the answer began
	touch   func()
}

func (w *countingWriter) WriteHeader(status int) {
	if status >= 200 { // 1xx are not the answer yet
		w.status, w.at = status, time.Now()
		w.written = answerHeadBytes(w.proto, status, w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	if n > 0 && w.touch != nil {
		w.touch()
	}
	return n, err
}

// Unwrap lets http.ResponseController reach Flush.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestHeadBytes is the size of a request before its body, as HTTP/1.1 spells
// it; HTTP/2 sends it compressed.
func requestHeadBytes(r *http.Request) int64 {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n\r\n")
	if r.Host != "" {
		n += len("Host: \r\n") + len(r.Host)
	}
	for _, coding := range r.TransferEncoding {
		n += len("Transfer-Encoding: \r\n") + len(coding)
	}
	return int64(n + headerBytes(r.Header))
}

// answerHeadBytes is the same of an answer.
func answerHeadBytes(proto string, status int, h http.Header) int64 {
	n := len(proto) + len(" 200 \r\n\r\n") + len(http.StatusText(status)) + headerBytes(h)
	if h.Get("Date") == "" {
		n += len("Date: \r\n") + len(http.TimeFormat)
	}
	return int64(n)
}

func headerBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	return n
}

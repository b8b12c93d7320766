package alb

import (
	"net/http"
	"strconv"
	"strings"
)

// Codes of AWS's own.
const (
	statusClientGone      = 460 // the client left before the answer
	statusWrongProtocol   = 464 // the request's protocol is not the target group's
	statusTooManyForwards = 463 // X-Forwarded-For names more than 30 addresses
)

const maxForwards = 30

// titles are the codes' names where AWS's pages differ from Go's.
var titles = map[int]string{
	http.StatusRequestTimeout:     "Request Time-out",
	http.StatusServiceUnavailable: "Service Temporarily Unavailable",
	http.StatusGatewayTimeout:     "Gateway Time-out",
}

// page is the body of an answer in the load balancer's own name.
func page(status int) string {
	title, ok := titles[status]
	if !ok {
		title = http.StatusText(status)
	}
	title = strconv.Itoa(status) + " " + title
	return "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n</body>\r\n</html>\r\n"
}

// answer writes an answer in the load balancer's own name.
func answer(w http.ResponseWriter, r *http.Request, status int) {
	h := w.Header()
	h.Set("Server", "awselb/2.0")
	body := ""
	switch {
	case status == statusWrongProtocol: // nothing but the code
		h["Content-Type"] = nil
	case status == http.StatusNotFound: // the controller's own rule for what no other takes
		h.Set("Content-Type", "text/plain; charset=utf-8")
	case status >= 500 && isGRPC(r):
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", "14")
		h.Set("Grpc-Message", "unavailable")
	default:
		h.Set("Content-Type", "text/html")
		body = page(status)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if body != "" && r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body)) // a client that has gone needs no answer
	}
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// speaks tells whether a target group takes the request's protocol.
func speaks(l Listener, r *http.Request) bool {
	if l == GRPC {
		return r.ProtoMajor == 2 && r.Method == http.MethodPost
	}
	return r.ProtoMajor == 1
}

func forwards(h http.Header) int {
	n := 0
	for _, v := range h["X-Forwarded-For"] {
		n += strings.Count(v, ",") + 1
	}
	return n
}

package policy

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Filters change a request on its way, or its response, or answer it. The nil
// Filters do nothing.
type Filters struct {
	request, response *headerChange
	redirect          *meshapi.Redirect
}

type headerChange struct {
	set, add [][2]string
	remove   []string
}

func (c *headerChange) apply(h http.Header) {
	for _, kv := range c.set {
		h[kv[0]] = []string{kv[1]}
	}
	for _, kv := range c.add {
		h[kv[0]] = append(h[kv[0]], kv[1])
	}
	for _, name := range c.remove {
		delete(h, name)
	}
}

// Request changes a request's headers.
func (f *Filters) Request(h http.Header) {
	if f != nil && f.request != nil {
		f.request.apply(h)
	}
}

// ChangesResponse says whether Response does anything.
func (f *Filters) ChangesResponse() bool { return f != nil && f.response != nil }

// Response changes a response's headers.
func (f *Filters) Response(h http.Header) {
	if f.ChangesResponse() {
		f.response.apply(h)
	}
}

// Redirect is where and how a request is sent elsewhere. It is not when it
// would come back to where it is.
func (f *Filters) Redirect(r *http.Request, matched int) (location string, status int, redirected bool) {
	if f == nil || f.redirect == nil {
		return "", 0, false
	}
	d := f.redirect
	scheme := "http"
	if d.GetScheme() != "" {
		scheme = d.GetScheme()
	}
	host := authority(r.Host, scheme, d)
	path := rawPath(r)
	switch {
	case d.GetReplacePrefix():
		rest := strings.TrimPrefix(path[min(matched, len(path)):], "/")
		path = strings.TrimSuffix(d.GetPath(), "/")
		if rest != "" || path == "" {
			path += "/" + rest
		}
	case d.GetPath() != "":
		path = d.GetPath()
	}
	if scheme == "http" && strings.EqualFold(host, r.Host) && path == rawPath(r) {
		return "", 0, false
	}
	location = scheme + "://" + host + path
	if r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	status = int(d.GetStatus())
	if status == 0 {
		status = http.StatusFound
	}
	return location, status, true
}

// authority is the host of a redirection, with its port unless the scheme
// tells it.
func authority(asked, scheme string, d *meshapi.Redirect) string {
	host, port, err := net.SplitHostPort(asked)
	if err != nil {
		host, port = strings.Trim(asked, "[]"), ""
	}
	if d.GetHostname() != "" {
		host = d.GetHostname()
	}
	switch {
	case d.GetPort() != 0:
		port = strconv.Itoa(int(d.GetPort()))
	case d.GetScheme() != "":
		port = ""
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func compileFilters(f *meshapi.Filters) (*Filters, error) {
	if f.GetRequest() == nil && f.GetResponse() == nil && f.GetRedirect() == nil {
		return nil, nil
	}
	out := &Filters{redirect: f.GetRedirect()}
	var err error
	if out.request, err = compileHeaderChange(f.GetRequest()); err != nil {
		return nil, err
	}
	if out.response, err = compileHeaderChange(f.GetResponse()); err != nil {
		return nil, err
	}
	if d := out.redirect; d != nil && d.GetPath() != "" && !strings.HasPrefix(d.GetPath(), "/") {
		return nil, fmt.Errorf("the redirection's path %q does not begin with a slash", d.GetPath())
	}
	return out, nil
}

// CheckFilters says whether filters can be compiled.
func CheckFilters(f *meshapi.Filters) error {
	_, err := compileFilters(f)
	return err
}

func compileHeaderChange(c *meshapi.HeaderChange) (*headerChange, error) {
	if c == nil {
		return nil, nil
	}
	out := &headerChange{}
	for _, l := range []struct {
		from []*meshapi.Header
		into *[][2]string
	}{{c.GetSet(), &out.set}, {c.GetAdd(), &out.add}} {
		for _, h := range l.from {
			if !httpguts.ValidHeaderFieldName(h.GetName()) || !httpguts.ValidHeaderFieldValue(h.GetValue()) {
				return nil, fmt.Errorf("header %q: %q cannot be sent", h.GetName(), h.GetValue())
			}
			*l.into = append(*l.into, [2]string{http.CanonicalHeaderKey(h.GetName()), h.GetValue()})
		}
	}
	for _, name := range c.GetRemove() {
		out.remove = append(out.remove, http.CanonicalHeaderKey(name))
	}
	return out, nil
}

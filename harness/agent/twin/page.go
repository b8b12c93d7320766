package twin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// caller makes one call of a twin and waits for its whole answer.
type caller interface {
	call(ctx context.Context) error
	close() error
}

// isPage tells whether a twin is a page of the shop, and not an echo server.
func isPage(addr string) bool { return strings.HasPrefix(addr, "http://") }

// maxPage is more than any page of the shop has.
const maxPage = 1 << 20

// page is a twin that is asked for a page, as customers ask for it: over
// HTTP/1.1, on a connection that is kept.
type page struct {
	url       string
	transport *http.Transport
}

func newPage(url string) *page {
	return &page{url: url, transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1}}
}

// call takes a page that lacks a part for a failure: some service had no say in
// it, so its time is not that of the whole way.
func (p *page) call(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", p.url, res.Status)
	}
	var body struct {
		Missing []string `json:"missing"`
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return fmt.Errorf("GET %s: the answer is no JSON", p.url)
	}
	if len(body.Missing) > 0 {
		return fmt.Errorf("GET %s: the page lacks its %s", p.url, strings.Join(body.Missing, " and its "))
	}
	return nil
}

func (p *page) close() error {
	p.transport.CloseIdleConnections()
	return nil
}

// await calls until the twin answers: it may still be coming up.
func await(ctx context.Context, c caller, name string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := timed(ctx, c)
		if err == nil {
			return nil
		}
		if pause.For(ctx, 500*time.Millisecond) != nil {
			return fmt.Errorf("%s does not answer within %s: %w", name, startTimeout, err)
		}
	}
}

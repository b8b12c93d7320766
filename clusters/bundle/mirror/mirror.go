// Package mirror serves the images of an OCI layout to container runtimes that
// ask it in the place of the registries the images are named after.
//
// An image called HOST/REPOSITORY:TAG is found under three names: as
// HOST/REPOSITORY, as REPOSITORY with the query ns=HOST (which is how
// containerd asks a mirror), and as plain REPOSITORY when no other host's image
// has that name. Clients can read and nothing else.
package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const refAnnotation = "org.opencontainers.image.ref.name"

// New returns the handler of a registry with the images of the layout at dir.
// accessLog gets a line a request.
func New(dir string, accessLog *log.Logger) (http.Handler, error) {
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("read the image layout: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("read the image layout: index.json: %w", err)
	}
	inner := registry.New(registry.Logger(accessLog), registry.WithBlobHandler(blobs(filepath.Join(dir, "blobs"))))
	m := &handler{inner: inner, full: map[string]bool{}, short: map[string][]string{}}
	for _, d := range index.Manifests {
		if err := m.put(dir, d); err != nil {
			return nil, fmt.Errorf("image %s: %w", d.Annotations[refAnnotation], err)
		}
	}
	return m, nil
}

type handler struct {
	inner http.Handler
	full  map[string]bool     // HOST/REPOSITORY
	short map[string][]string // REPOSITORY → the full names that end so
}

// put hands one manifest to the registry behind, as a client's push would.
func (m *handler) put(dir string, d v1.Descriptor) error {
	ref, err := name.ParseReference(d.Annotations[refAnnotation])
	if err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "blobs", d.Digest.Algorithm, d.Digest.Hex))
	if err != nil {
		return err
	}
	full := hostName(ref.Context().RegistryStr()) + "/" + ref.Context().RepositoryStr()
	for _, id := range []string{ref.Identifier(), d.Digest.String()} {
		req, err := http.NewRequest(http.MethodPut, "http://mirror/v2/"+full+"/manifests/"+id, bytes.NewReader(manifest))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", string(d.MediaType))
		w := &answer{header: http.Header{}}
		m.inner.ServeHTTP(w, req)
		if w.code >= 300 {
			return fmt.Errorf("put its manifest: %d %s", w.code, strings.TrimSpace(w.body.String()))
		}
	}
	if !m.full[full] {
		m.full[full] = true
		short := ref.Context().RepositoryStr()
		m.short[short] = append(m.short[short], full)
	}
	return nil
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// ServeHTTP implements http.Handler.
func (m *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this registry can only be read", http.StatusMethodNotAllowed)
		return
	}
	rewritten := r.Clone(r.Context())
	rewritten.URL.Path = m.rewrite(r.URL.Path, r.URL.Query().Get("ns"))
	rewritten.URL.RawPath = ""
	m.inner.ServeHTTP(w, rewritten)
}

// rewrite gives a request's path the full name of the repository it asks for.
func (m *handler) rewrite(p, ns string) string {
	repo, rest, ok := splitPath(p)
	if !ok || m.full[repo] {
		return p
	}
	if ns != "" {
		if full := hostName(ns) + "/" + repo; m.full[full] {
			return "/v2/" + full + rest
		}
		return p
	}
	if full := m.short[repo]; len(full) == 1 {
		return "/v2/" + full[0] + rest
	}
	return p
}

// splitPath parts /v2/REPOSITORY/(manifests|blobs|tags)/… before its verb.
func splitPath(p string) (repo, rest string, ok bool) {
	below, ok := strings.CutPrefix(p, "/v2/")
	if !ok {
		return "", "", false
	}
	at := -1
	for _, verb := range []string{"/manifests/", "/blobs/", "/tags/"} {
		at = max(at, strings.LastIndex(below, verb))
	}
	if at < 0 {
		return "", "", false
	}
	return below[:at], below[at:], true
}

// hostName gives Docker Hub one name; it goes by three.
func hostName(host string) string {
	switch host {
	case name.DefaultRegistry, "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// blobs serves blobs from a layout's folder. Their digests were verified when
// the bundle was made; reading each one again for each request would double
// the work of every pull.
type blobs string

var _ registry.BlobStatHandler = blobs("")

// Get implements registry.BlobHandler.
func (b blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	f, err := os.Open(b.file(h))
	if os.IsNotExist(err) {
		return nil, registry.ErrNotFound
	}
	return f, err
}

// Stat implements registry.BlobStatHandler.
func (b blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	info, err := os.Stat(b.file(h))
	if os.IsNotExist(err) {
		return 0, registry.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (b blobs) file(h v1.Hash) string { return path.Join(string(b), h.Algorithm, h.Hex) }

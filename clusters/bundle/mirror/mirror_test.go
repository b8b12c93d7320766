package mirror

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle/pack"
)

// layoutOf is a layout with one image for each reference; it returns the digests.
func layoutOf(t *testing.T, refs ...string) (dir string, digests map[string]string) {
	t.Helper()
	dir, digests = t.TempDir(), map[string]string{}
	index := v1.IndexManifest{SchemaVersion: 2}
	for _, ref := range refs {
		blobs := filepath.Join(dir, "blobs")
		l, err := pack.WriteLayer(blobs, []pack.Entry{pack.File("/ref", 0o644, []byte(ref))}, pack.Compressed)
		require.NoError(t, err)
		img, err := pack.NewImage(pack.Config{}, l)
		require.NoError(t, err)
		d, err := pack.WriteBlobs(blobs, img)
		require.NoError(t, err)
		d.Annotations = map[string]string{refAnnotation: ref}
		index.Manifests = append(index.Manifests, d)
		digests[ref] = d.Digest.String()
	}
	text, err := json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), text, 0o644))
	return dir, digests
}

func serve(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	h, err := New(dir, log.New(io.Discard, "", 0))
	require.NoError(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestAnImageIsFoundUnderItsThreeNames(t *testing.T) {
	const own, hub, a, b = "meshsim.local/shop:1", "docker.io/library/postgres:14", "quay.io/x/same:1", "cr.l5d.io/x/same:1"
	dir, digests := layoutOf(t, own, hub, a, b)
	s := serve(t, dir)
	for path, want := range map[string]string{
		"shop/manifests/1?ns=meshsim.local":                     digests[own],
		"shop/manifests/1":                                      digests[own],
		"meshsim.local/shop/manifests/1":                        digests[own],
		"meshsim.local/shop/manifests/" + digests[own]:          digests[own],
		"library/postgres/manifests/14?ns=docker.io":            digests[hub],
		"library/postgres/manifests/14?ns=registry-1.docker.io": digests[hub],
		"library/postgres/manifests/14?ns=index.docker.io":      digests[hub],
		"x/same/manifests/1?ns=quay.io":                         digests[a],
		"x/same/manifests/1?ns=cr.l5d.io":                       digests[b],
		"x/same/manifests/" + digests[b] + "?ns=cr.l5d.io":      digests[b],
		"x/same/manifests/1":                                    "", // two hosts have it
		"shop/manifests/1?ns=quay.io":                           "", // another host's
		"shop/manifests/2?ns=meshsim.local":                     "",
		"nothing/manifests/1?ns=meshsim.local":                  "",
	} {
		resp, err := http.Head(s.URL + "/v2/" + path)
		require.NoError(t, err)
		resp.Body.Close()
		if want == "" {
			require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
			continue
		}
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Equal(t, want, resp.Header.Get("Docker-Content-Digest"), path)
	}
}

func TestAWholeImageCanBePulled(t *testing.T) {
	dir, digests := layoutOf(t, "meshsim.local/shop:1")
	s := serve(t, dir)
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/shop:1")
	require.NoError(t, err)
	img, err := remote.Image(ref)
	require.NoError(t, err)
	require.NoError(t, validate.Image(img))
	h, err := img.Digest()
	require.NoError(t, err)
	require.Equal(t, digests["meshsim.local/shop:1"], h.String())
}

func TestClientsCanOnlyRead(t *testing.T) {
	dir, digests := layoutOf(t, "meshsim.local/shop:1")
	s := serve(t, dir)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, path := range []string{"shop/blobs/uploads/", "shop/manifests/1", "shop/blobs/" + digests["meshsim.local/shop:1"]} {
			req, err := http.NewRequest(method, s.URL+"/v2/"+path, strings.NewReader("{}"))
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, "%s %s", method, path)
			require.Equal(t, "GET, HEAD", resp.Header.Get("Allow"))
		}
	}
	resp, err := http.Get(s.URL + "/v2/")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestAMissingBlobIsNotFoundAndADigestCannotLeaveTheFolder(t *testing.T) {
	dir, _ := layoutOf(t, "meshsim.local/shop:1")
	s := serve(t, dir)
	for _, path := range []string{
		"shop/blobs/sha256:" + strings.Repeat("0", 64),
		"shop/blobs/sha256:..%2F..%2Findex.json",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req, err := http.NewRequest(method, s.URL+"/v2/"+path, nil)
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			resp.Body.Close()
			require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, resp.StatusCode, "%s %s", method, path)
		}
	}
}

func TestALayoutThatIsNotWholeIsNotServed(t *testing.T) {
	_, err := New(t.TempDir(), log.New(io.Discard, "", 0))
	require.ErrorContains(t, err, "read the image layout")
	dir, _ := layoutOf(t, "meshsim.local/shop:1")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "blobs")))
	_, err = New(dir, log.New(io.Discard, "", 0))
	require.ErrorContains(t, err, "image meshsim.local/shop:1")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte("["), 0o644))
	_, err = New(dir, log.New(io.Discard, "", 0))
	require.ErrorContains(t, err, "index.json")
}

func FuzzRewrite(f *testing.F) {
	f.Add("/v2/shop/manifests/1", "meshsim.local")
	f.Add("/v2/x/same/blobs/sha256:00", "")
	f.Add("/v2//manifests/", "docker.io")
	m := &handler{
		full:  map[string]bool{"meshsim.local/shop": true, "docker.io/x/same": true, "quay.io/x/same": true},
		short: map[string][]string{"shop": {"meshsim.local/shop"}, "x/same": {"docker.io/x/same", "quay.io/x/same"}},
	}
	f.Fuzz(func(t *testing.T, p, ns string) {
		once := m.rewrite(p, ns)
		if m.rewrite(once, ns) != once {
			t.Fatalf("%q with ns=%q goes to %q and on", p, ns, once)
		}
		if once != p && !m.full[strings.TrimPrefix(once[:strings.LastIndex(once, "/")], "/v2/")] && !strings.HasPrefix(once, "/v2/") {
			t.Fatalf("%q with ns=%q leaves the registry: %q", p, ns, once)
		}
	})
}

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

// registryOf is a registry on loopback with some/official:v1 in it. It counts
// blob downloads, and breaks those that refuse says.
type registryOf struct {
	*httptest.Server
	host   string
	digest string

	mu     sync.Mutex
	blobs  int
	refuse func(n int) bool
}

func startRegistry(t *testing.T) *registryOf {
	t.Helper()
	r := &registryOf{refuse: func(int) bool { return false }}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			r.mu.Lock()
			r.blobs++
			broken := r.refuse(r.blobs)
			r.mu.Unlock()
			if broken {
				http.Error(w, "gone", http.StatusNotFound)
				return
			}
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	img, err := random.Image(2000, 3)
	require.NoError(t, err)
	ref, err := name.ParseReference(r.host + "/some/official:v1")
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, img))
	h, err := img.Digest()
	require.NoError(t, err)
	r.digest = h.String()
	return r
}

func pullOptions(t *testing.T, d cache.Dir, mirror string) PullOptions {
	b := options(d, tinyCheckout(t), fakeGo())
	return PullOptions{Cache: d, Source: b.Source, Runner: b.Runner, Log: b.Log, Progress: b.Progress, Mirror: mirror}
}

func TestAPulledBundleHasOfficialImagesAndOurProgramsBuilt(t *testing.T) {
	r, d, lock := startRegistry(t), cache.Dir(t.TempDir()), parsed(t, smallLock)
	o := pullOptions(t, d, r.host)
	b, err := pull(t.Context(), lock, o)
	require.NoError(t, err)
	require.NoError(t, b.Verify(t.Context()))
	i, err := b.Image("official")
	require.NoError(t, err)
	require.Equal(t, "registry.example/some/official:v1", i.Ref, "named after the real registry, not after the mirror")
	require.Equal(t, r.digest, i.Digest)
	require.Equal(t, "v1", i.Version)
	require.Equal(t, OriginPulled, i.Origin)
	ours, err := b.Image("tiny")
	require.NoError(t, err)
	require.Equal(t, OriginBuilt, ours.Origin)

	opened, err := open(d, lock, o.Source)
	require.NoError(t, err)
	require.Equal(t, b.Hash, opened.Hash)
	before := r.blobs
	_, err = pull(t.Context(), lock, o)
	require.NoError(t, err)
	require.Equal(t, before, r.blobs, "what is there is not pulled again")
}

func TestAPullThatWasCutOffTakesOnlyWhatIsMissing(t *testing.T) {
	r, d := startRegistry(t), cache.Dir(t.TempDir())
	r.refuse = func(n int) bool { return n == 3 }
	o := pullOptions(t, d, r.host)
	_, err := pull(t.Context(), parsed(t, smallLock), o)
	require.ErrorContains(t, err, "pull registry.example/some/official:v1")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	_, err = Open(d, "")
	require.ErrorIs(t, err, ErrNotBuilt)
	r.refuse, r.blobs = func(int) bool { return false }, 0
	b, err := pull(t.Context(), parsed(t, smallLock), o)
	require.NoError(t, err)
	require.NoError(t, b.Verify(t.Context()))
	require.Less(t, r.blobs, 4, "of three layers and a configuration, some were there")
}

func TestARegistryThatDoesNotAnswerIsAnEnvironmentFaultWithAMend(t *testing.T) {
	r := startRegistry(t)
	o := pullOptions(t, cache.Dir(t.TempDir()), r.host)
	r.Close()
	_, err := pull(t.Context(), parsed(t, smallLock), o)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "meshsim bundle build")
}

func TestReferencesSplitIntoNameAndVersion(t *testing.T) {
	const digest = "@sha256:bad10f9b98d54586cba05a7eaa1b61c6b90bfc4ee174fdc43a7b75ca75c95e51"
	for ref, want := range map[string][2]string{
		"docker.io/library/postgres:14":      {"docker.io/library/postgres:14", "14"},
		"docker.io/kindest/node:v1" + digest: {"docker.io/kindest/node:v1", "v1"},
		"host:5000/x" + digest:               {"host:5000/x" + digest, "host:5000/x" + digest},
	} {
		require.Equal(t, want, [2]string{plainRef(ref), versionOf(ref)}, ref)
	}
}

// chartRepository serves one chart, and says what its index claims of it.
func chartRepository(t *testing.T, digest func(real string) string) (*httptest.Server, LockedChart) {
	t.Helper()
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{
		"some/Chart.yaml":       "apiVersion: v2\nname: some\nversion: 1.2.3\n",
		"some/templates/a.yaml": "a: 1\n",
	} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	s := sha256.Sum256(archive.Bytes())
	index := fmt.Sprintf("apiVersion: v1\nentries:\n  some:\n  - apiVersion: v2\n    name: some\n    version: 1.2.3\n    digest: %s\n    urls: [some-1.2.3.tgz]\n",
		digest(hex.EncodeToString(s[:])))
	mux := http.NewServeMux()
	mux.HandleFunc("/charts/index.yaml", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, index) })
	mux.HandleFunc("/charts/some-1.2.3.tgz", func(w http.ResponseWriter, _ *http.Request) { w.Write(archive.Bytes()) })
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return server, LockedChart{Name: "some", Version: "1.2.3", Pull: server.URL + "/charts"}
}

func TestAChartIsFetchedUnpackedAndKept(t *testing.T) {
	server, chart := chartRepository(t, func(real string) string { return real })
	w := testWorkshop(cache.Dir(t.TempDir()))
	o := PullOptions{Transport: server.Client().Transport}
	f, err := w.pullChart(t.Context(), chart, o)
	require.NoError(t, err)
	require.Equal(t, "a: 1\n", read(t, filepath.Join(f.folder, "templates/a.yaml")))
	require.Contains(t, read(t, filepath.Join(f.folder, "Chart.yaml")), "version: 1.2.3")
	server.Close()
	again, err := w.pullChart(t.Context(), chart, o)
	require.NoError(t, err)
	require.Equal(t, f, again)
}

func TestAChartThatIsNotWhatTheIndexSaysIsRefused(t *testing.T) {
	server, chart := chartRepository(t, func(string) string { return strings.Repeat("0", 64) })
	w := testWorkshop(cache.Dir(t.TempDir()))
	o := PullOptions{Transport: server.Client().Transport}
	_, err := w.pullChart(t.Context(), chart, o)
	require.ErrorContains(t, err, "has digest")
	chart.Version = "9.9.9"
	_, err = w.pullChart(t.Context(), chart, o)
	require.ErrorContains(t, err, "9.9.9")
	chart.Pull += "/nowhere"
	_, err = w.pullChart(t.Context(), chart, o)
	require.ErrorContains(t, err, "404")
}

package bundle

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/registry"

	"meshsim.dev/meshsim/clusters/bundle/mirror"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

// chartLock is smallLock with a chart that nobody can fetch.
const chartLock = smallLock + `charts:
- {name: some, version: 1.2.3, pull: "https://charts.invalid/stable"}
`

// someChart writes a chart that is made of another one, as Linkerd's is.
func someChart(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "some")
	for file, text := range map[string]string{
		"Chart.yaml":                       "apiVersion: v2\nname: some\nversion: " + version + "\nappVersion: stable-" + version + "\ndependencies:\n- {name: partials, version: 0.1.0, repository: \"file://../partials\"}\n",
		"values.yaml":                      "greeting: hello\n",
		"templates/a.yaml":                 "{{ include \"partials.say\" .Values.greeting }}\n",
		"charts/partials/Chart.yaml":       "apiVersion: v2\nname: partials\nversion: 0.1.0\n",
		"charts/partials/templates/_a.tpl": "{{ define \"partials.say\" }}say: {{ . }}{{ end }}",
	} {
		put(t, filepath.Join(dir, file), text)
	}
	return dir
}

// packed is a chart's folder as a .tgz.
func packed(t *testing.T, dir string) (file string) {
	t.Helper()
	c, err := loader.LoadDir(dir)
	require.NoError(t, err)
	file, err = chartutil.Save(c, t.TempDir())
	require.NoError(t, err)
	return file
}

func given(from, dir string) Override {
	return Override{From: from, By: "--given", path: localPath(from, dir)}
}

func TestAChartComesFromAFolderAnArchiveARegistryOrARepository(t *testing.T) {
	r := startRegistry(t)
	dir := someChart(t, "1.2.3")
	archive := packed(t, dir)
	content, err := os.ReadFile(archive)
	require.NoError(t, err)

	pusher, err := registry.NewClient(registry.ClientOptPlainHTTP(), registry.ClientOptWriter(io.Discard))
	require.NoError(t, err)
	_, err = pusher.Push(content, r.host+"/charts/some:1.2.3")
	require.NoError(t, err)

	index := "apiVersion: v1\nentries:\n  some:\n  - {apiVersion: v2, name: some, version: 1.2.3, urls: [some-1.2.3.tgz]}\n"
	mux := http.NewServeMux()
	mux.HandleFunc("/stable/index.yaml", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, index) })
	mux.HandleFunc("/stable/some-1.2.3.tgz", func(w http.ResponseWriter, _ *http.Request) { w.Write(content) })
	repository := httptest.NewTLSServer(mux)
	t.Cleanup(repository.Close)

	digests := map[string]string{}
	for name, from := range map[string]Override{
		"a folder":                    given("./some", filepath.Dir(dir)),
		"an archive":                  given("./"+filepath.Base(archive), filepath.Dir(archive)),
		"a registry":                  {From: "oci://" + r.host + "/charts/some:1.2.3"},
		"a repository":                {From: repository.URL + "/stable"},
		"a repository with a version": {From: repository.URL + "/stable@1.2.3"},
		"an archive's address":        {From: repository.URL + "/stable/some-1.2.3.tgz"},
	} {
		o := pullOptions(t, cache.Dir(t.TempDir()), r.host)
		o.Transport = repository.Client().Transport
		o.Overrides = Overrides{Charts: map[string]Override{"some": from}}
		b, err := pull(t.Context(), parsed(t, chartLock), o)
		require.NoError(t, err, name)
		require.NoError(t, b.Verify(t.Context()), name)
		require.Len(t, b.Charts(), 1, name)
		c := b.Charts()[0]
		require.Equal(t, [3]string{"some", "1.2.3", from.From}, [3]string{c.Name, c.Version, c.Source}, name)
		require.Equal(t, map[bool]string{true: OriginLocal, false: OriginPulled}[from.path != ""], c.Origin, name)
		require.Regexp(t, `^sha256:[0-9a-f]{64}$`, c.Digest, name)
		digests[name] = c.Digest

		folder, err := b.Chart("some")
		require.NoError(t, err)
		loaded, err := loader.LoadDir(folder)
		require.NoError(t, err, name)
		require.Len(t, loaded.Dependencies(), 1, "%s: with the chart that it is made of", name)
		require.Equal(t, "stable-1.2.3", loaded.AppVersion())
		files, err := b.Image("official")
		require.NoError(t, err)
		require.Empty(t, files.Source, "the rest is the lock's")
	}
	require.Equal(t, digests["an archive"], digests["a registry"], "the same files have the same digest")
	require.Equal(t, digests["an archive"], digests["a repository"])
	require.Equal(t, digests["an archive"], digests["a repository with a version"])
	require.Equal(t, digests["an archive"], digests["an archive's address"])
}

func TestAChartThatIsNotTheOneOrNotWholeIsWrongUse(t *testing.T) {
	r := startRegistry(t)
	other := someChart(t, "1.2.3")
	put(t, filepath.Join(other, "Chart.yaml"), "apiVersion: v2\nname: other\nversion: 1.0.0\n")
	lone := someChart(t, "1.2.3")
	require.NoError(t, os.RemoveAll(filepath.Join(lone, "charts")))
	junk := filepath.Join(t.TempDir(), "junk.tgz")
	put(t, junk, "not an archive")
	for name, c := range map[string]struct {
		from Override
		kind fault.Kind
		want string
	}{
		"another chart":           {given(other, "."), fault.Invalid, `the chart is "other", not some`},
		"a chart without its own": {given(lone, "."), fault.Invalid, "lacks the chart partials that it is made of"},
		"a folder without chart":  {given(t.TempDir(), "."), fault.Invalid, "Chart.yaml"},
		"no archive":              {given(junk, "."), fault.Invalid, "junk.tgz"},
		"an image":                {Override{From: "oci://" + r.host + "/some/official:v1"}, fault.Environment, "what is there is no Helm chart"},
		"nothing there":           {Override{From: "oci://" + r.host + "/charts/some:9"}, fault.Environment, "take some from oci://"},
	} {
		t.Run(name, func(t *testing.T) {
			o := pullOptions(t, cache.Dir(t.TempDir()), r.host)
			c.from.By = "--chart some=X"
			o.Overrides = Overrides{Charts: map[string]Override{"some": c.from}}
			_, err := pull(t.Context(), parsed(t, chartLock), o)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "(--chart some=X)")
			require.Equal(t, c.kind, fault.KindOf(err))
		})
	}
}

// patched is an image in the registry and its digest.
func (r *registryOf) patched(t *testing.T, ref string) (v1.Image, string) {
	t.Helper()
	img, err := random.Image(1500, 2)
	require.NoError(t, err)
	parsed, err := name.ParseReference(r.host + "/" + ref)
	require.NoError(t, err)
	require.NoError(t, remote.Write(parsed, img))
	h, err := img.Digest()
	require.NoError(t, err)
	return img, h.String()
}

// served asks a bundle's registry for an image as a node does, and returns its digest.
func served(t *testing.T, b *Bundle, ref string) string {
	t.Helper()
	h, err := mirror.New(b.Layout(), log.New(io.Discard, "", 0))
	require.NoError(t, err)
	parsed, err := name.ParseReference(ref)
	require.NoError(t, err)
	host := parsed.Context().RegistryStr()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/v2/"+parsed.Context().RepositoryStr()+"/manifests/"+parsed.Identifier()+"?ns="+host, nil))
	require.Equal(t, http.StatusOK, w.Code, ref)
	return w.Header().Get("Docker-Content-Digest")
}

func TestAnImageComesFromAReferenceAndIsServedToTheNodes(t *testing.T) {
	r := startRegistry(t)
	_, digest := r.patched(t, "my/proxy:patched")
	pinned := r.host + "/my/proxy@" + digest
	for name, c := range map[string]struct{ from, ref, version string }{
		"a tag":              {r.host + "/my/proxy:patched", r.host + "/my/proxy:patched", "patched"},
		"a tag and a digest": {r.host + "/my/proxy:patched@" + digest, r.host + "/my/proxy:patched", "patched"},
		"a digest":           {pinned, "meshsim.local/official:sha256-" + digest[7:19], "sha256-" + digest[7:19]},
	} {
		t.Run(name, func(t *testing.T) {
			o := pullOptions(t, cache.Dir(t.TempDir()), "registry.invalid") // an override is asked where it is said to be
			o.Overrides = Overrides{Images: map[string]Override{"official": {From: c.from}}}
			b, err := pull(t.Context(), parsed(t, smallLock), o)
			require.NoError(t, err)
			require.NoError(t, b.Verify(t.Context()))
			i, err := b.Image("official")
			require.NoError(t, err)
			require.Equal(t, Image{Name: "official", Ref: c.ref, Digest: digest, Config: i.Config, Version: c.version, Origin: OriginPulled, Source: c.from}, i)
			require.Equal(t, digest, served(t, b, i.Ref))
			hosts, err := b.MirrorHosts("http://registry:5000")
			require.NoError(t, err)
			require.Contains(t, hosts, strings.SplitN(i.Ref, "/", 2)[0], "nodes ask the bundle's registry for it")
		})
	}
}

// savedAs writes an image in each of the forms that files of images have.
func savedAs(t *testing.T, img v1.Image, tag string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	ref, err := name.NewTag("registry.example/my/proxy:" + tag)
	require.NoError(t, err)
	docker := filepath.Join(dir, "docker.tar")
	require.NoError(t, tarball.WriteToFile(docker, ref, img))
	text, err := os.ReadFile(docker)
	require.NoError(t, err)
	zipped := filepath.Join(dir, "docker.tar.gz")
	f, err := os.Create(zipped)
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	_, err = z.Write(text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())

	folder := filepath.Join(dir, "layout")
	p, err := layout.Write(folder, empty.Index)
	require.NoError(t, err)
	require.NoError(t, p.AppendImage(img, layout.WithAnnotations(map[string]string{annotationRef: "my/proxy:" + tag})))

	// As build tools write it: an index for several machines within the layout's.
	several := filepath.Join(dir, "several")
	foreign, err := random.Image(100, 1)
	require.NoError(t, err)
	inner := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: goarch}}},
		mutate.IndexAddendum{Add: foreign, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: foreign, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	p, err = layout.Write(several, empty.Index)
	require.NoError(t, err)
	require.NoError(t, p.AppendIndex(inner, layout.WithAnnotations(map[string]string{annotationRef: tag})))

	archive := filepath.Join(dir, "oci.tar")
	tarTree(t, folder, archive)
	return map[string]string{"docker save": docker, "docker save, zipped": zipped, "an OCI layout": folder, "an OCI layout for several machines": several, "an OCI archive": archive}
}

func tarTree(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Create(to)
	require.NoError(t, err)
	w := tar.NewWriter(f)
	require.NoError(t, w.AddFS(os.DirFS(from)))
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
}

func TestAnImageComesFromAFileWithoutAnyRegistry(t *testing.T) {
	img, err := random.Image(1500, 2)
	require.NoError(t, err)
	config, err := img.ConfigName()
	require.NoError(t, err)
	for name, file := range savedAs(t, img, "v7") {
		t.Run(name, func(t *testing.T) {
			d := cache.Dir(t.TempDir())
			o := options(d, tinyCheckout(t), fakeGo())
			o.Overrides = Overrides{Images: map[string]Override{"official": given(file, ".")}}
			b, err := build(t.Context(), parsed(t, smallLock), o)
			require.NoError(t, err)
			require.NoError(t, b.Verify(t.Context()))
			i, err := b.Image("official")
			require.NoError(t, err)
			require.Equal(t, "meshsim.local/official:v7", i.Ref)
			require.Equal(t, [3]string{"v7", OriginLocal, file}, [3]string{i.Version, i.Origin, i.Source})
			require.Equal(t, config.String(), i.Config, "the same image, whatever it came in")
			require.Equal(t, i.Digest, served(t, b, i.Ref))
			_, err = b.Image("tiny")
			require.NoError(t, err, "the rest is built")
			left, err := filepath.Glob(filepath.Join(d.Bundles(), ".*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestAFileThatIsNoImageForThisMachineIsWrongUse(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		put(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	img, err := random.Image(100, 1)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture = "s390x"
	foreign, err := mutate.ConfigFile(img, config)
	require.NoError(t, err)
	ref, err := name.NewTag("x:1")
	require.NoError(t, err)
	require.NoError(t, tarball.WriteToFile(filepath.Join(dir, "foreign.tar"), ref, foreign))
	other, err := random.Image(100, 1)
	require.NoError(t, err)
	require.NoError(t, tarball.MultiWriteToFile(filepath.Join(dir, "two.tar"), map[name.Tag]v1.Image{ref: img, ref.Context().Tag("2"): other}))
	p, err := layout.Write(filepath.Join(dir, "two"), empty.Index)
	require.NoError(t, err)
	require.NoError(t, p.AppendImage(img))
	require.NoError(t, p.AppendImage(other))
	p, err = layout.Write(filepath.Join(dir, "damaged"), empty.Index)
	require.NoError(t, err)
	require.NoError(t, p.AppendImage(img))
	blob, err := img.ConfigName()
	require.NoError(t, err)
	write("damaged/blobs/sha256/"+blob.Hex, "{}")
	escape := filepath.Join(dir, "escape.tar")
	f, err := os.Create(escape)
	require.NoError(t, err)
	w := tar.NewWriter(f)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "../oci-layout", Typeflag: tar.TypeReg, Mode: 0o644}))
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())

	for name, c := range map[string]struct{ file, want string }{
		"an empty file":         {write("empty.tar", ""), "it is no OCI image layout"},
		"a text":                {write("text.tar", strings.Repeat("no tar at all\n", 100)), "it is no tar file of an image"},
		"a folder of nothing":   {t.TempDir(), "it is no OCI image layout"},
		"two images":            {filepath.Join(dir, "two.tar"), "two.tar holds 2 images, and one is wanted"},
		"a layout of two":       {filepath.Join(dir, "two"), "it holds 2 images for linux/" + goarch},
		"another machine's":     {filepath.Join(dir, "foreign.tar"), "it is made for s390x, and this machine is " + goarch},
		"a damaged layout":      {filepath.Join(dir, "damaged"), "its configuration has digest"},
		"a file that leaves it": {escape, `"../oci-layout" has no place in an image archive`},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(cache.Dir(t.TempDir()), tinyCheckout(t), fakeGo())
			o.Overrides = Overrides{Images: map[string]Override{"official": given(c.file, ".")}}
			_, err := build(t.Context(), parsed(t, smallLock), o)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err), err)
			_, err = Open(o.Cache, "")
			require.ErrorIs(t, err, ErrNotBuilt)
		})
	}
	require.NoFileExists(t, filepath.Join(dir, "oci-layout"))
}

func TestWhatIsGivenIsNotBuiltNorPulled(t *testing.T) {
	r := startRegistry(t)
	_, digest := r.patched(t, "my/tiny:1")
	d, runner := cache.Dir(t.TempDir()), fakeGo()
	o := options(d, tinyCheckout(t), runner)
	o.Overrides = Overrides{Images: map[string]Override{"tiny": {From: r.host + "/my/tiny:1"}}}
	b, err := build(t.Context(), parsed(t, smallLock), o)
	require.NoError(t, err)
	require.Empty(t, runner.Lines(), "no compiler ran")
	i, err := b.Image("tiny")
	require.NoError(t, err)
	require.Equal(t, digest, i.Digest)
}

func TestABundleWithOverridesIsOneOfItsOwnAndServesItsCheckout(t *testing.T) {
	r := startRegistry(t)
	_, first := r.patched(t, "my/proxy:1")
	d, lock, source := cache.Dir(t.TempDir()), parsed(t, smallLock), tinyCheckout(t)
	plain, err := build(t.Context(), lock, options(d, source, fakeGo()))
	require.NoError(t, err)

	o := options(d, source, fakeGo())
	o.Overrides = Overrides{Images: map[string]Override{"official": {From: r.host + "/my/proxy:1"}}}
	with, err := build(t.Context(), lock, o)
	require.NoError(t, err)
	require.NotEqual(t, plain.Hash, with.Hash)
	opened, err := open(d, lock, source)
	require.NoError(t, err)
	require.Equal(t, with.Hash, opened.Hash, "what was asked for last is what is used")
	again, err := build(t.Context(), lock, o)
	require.NoError(t, err)
	require.Equal(t, with.Hash, again.Hash)

	_, second := r.patched(t, "my/proxy:1") // pushed again under its tag
	require.NotEqual(t, first, second)
	moved, err := build(t.Context(), lock, o)
	require.NoError(t, err)
	require.NotEqual(t, with.Hash, moved.Hash)
	i, err := moved.Image("official")
	require.NoError(t, err)
	require.Equal(t, second, i.Digest)

	back, err := build(t.Context(), lock, options(d, source, fakeGo()))
	require.NoError(t, err)
	require.Equal(t, plain.Hash, back.Hash, "without overrides it is the plain one again")
	put(t, filepath.Join(source, "tiny/words/data/hello.txt"), "changed\n")
	_, err = open(d, lock, source)
	require.ErrorIs(t, err, ErrNotBuilt)
}

func TestAnOverlayTakesTheRestFromItsBaseAndLeavesItAlone(t *testing.T) {
	r := startRegistry(t)
	_, digest := r.patched(t, "my/proxy:1")
	lock := parsed(t, chartLock)
	d := cache.Dir(t.TempDir())
	p := pullOptions(t, d, r.host)
	p.Overrides = Overrides{Charts: map[string]Override{"some": given(someChart(t, "1.2.3"), ".")}}
	base, err := pull(t.Context(), lock, p)
	require.NoError(t, err)

	o := OverlayOptions{Cache: d, Base: base, Log: p.Log, Progress: p.Progress, Overrides: Overrides{
		Images: map[string]Override{"official": {From: r.host + "/my/proxy:1"}},
		Charts: map[string]Override{"some": given(someChart(t, "2.0.0"), ".")},
	}}
	b, err := overlay(t.Context(), lock, o)
	require.NoError(t, err)
	require.NoError(t, b.Verify(t.Context()))
	require.NoError(t, base.Verify(t.Context()))
	i, err := b.Image("official")
	require.NoError(t, err)
	require.Equal(t, digest, i.Digest)
	require.Equal(t, "2.0.0", b.Charts()[0].Version)
	kept, err := b.Image("tiny")
	require.NoError(t, err)
	before, err := base.Image("tiny")
	require.NoError(t, err)
	require.Equal(t, before, kept)
	require.Equal(t, "1.2.3", base.Charts()[0].Version)

	blobs := func(b *Bundle) (n int) {
		require.NoError(t, fs.WalkDir(os.DirFS(b.Layout()), "blobs", func(_ string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				n++
			}
			return err
		}))
		return n
	}
	require.Equal(t, 4+3, blobs(b), "the replaced image's blobs stay behind: layers, configuration and manifest of two images")
	again, err := overlay(t.Context(), lock, o)
	require.NoError(t, err)
	require.Equal(t, b.Hash, again.Hash)
	current, err := Open(d, "")
	require.NoError(t, err)
	require.Equal(t, base.Hash, current.Hash, "the next command uses the base, as if nothing had been")
	same, err := Overlay(t.Context(), OverlayOptions{Base: base})
	require.NoError(t, err)
	require.Same(t, base, same)
}

func TestAnOverlaidBundleTravels(t *testing.T) {
	r := startRegistry(t)
	_, digest := r.patched(t, "my/proxy:1")
	source, lock := tinyCheckout(t), parsed(t, smallLock)
	o := options(cache.Dir(t.TempDir()), source, fakeGo())
	o.Overrides = Overrides{Images: map[string]Override{"official": {From: r.host + "/my/proxy:1"}}}
	b, err := build(t.Context(), lock, o)
	require.NoError(t, err)
	read, write := io.Pipe()
	go func() { write.CloseWithError(b.Save(t.Context(), write)) }()
	there := cache.Dir(t.TempDir())
	_, err = Load(t.Context(), there, read)
	require.NoError(t, err)
	r.Close() // no registry where it went
	loaded, err := open(there, lock, source)
	require.NoError(t, err)
	i, err := loaded.Image("official")
	require.NoError(t, err)
	require.Equal(t, [2]string{digest, r.host + "/my/proxy:1"}, [2]string{i.Digest, i.Source})
	require.Equal(t, digest, served(t, loaded, i.Ref))
}

func TestARegistryThatDoesNotHaveAnOverrideIsTheEnvironments(t *testing.T) {
	r := startRegistry(t)
	o := options(cache.Dir(t.TempDir()), tinyCheckout(t), fakeGo())
	o.Overrides = Overrides{Images: map[string]Override{"official": {From: r.host + "/no/such:1", By: "--image official=x"}}}
	_, err := build(t.Context(), parsed(t, smallLock), o)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, fmt.Sprintf("take official from %s/no/such:1 (--image official=x)", r.host))
}

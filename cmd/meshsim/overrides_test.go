package main

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle"
)

func TestWrongOverridesAreOneClearErrorBeforeAnythingIsRaised(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "mine.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const head = "apiVersion: meshsim.dev/v1alpha1\nkind: Overrides\nspec:\n"
	flags := []struct {
		name  string
		flags []string
		want  []string // all of them in the error
	}{
		{"an unknown image", []string{"--image", "linkerd/prxy=x:1"}, []string{`--image linkerd/prxy=x:1: there is no image "linkerd/prxy"; known are: node`, "linkerd-proxy"}},
		{"an unknown chart", []string{"--chart", "linkerd=./x"}, []string{`--chart linkerd=./x: there is no chart "linkerd"; known are: cert-manager, linkerd-crds, linkerd-control-plane, vault`}},
		{"an image file that is not there", []string{"--image", "linkerd/proxy=./no.tar"}, []string{"--image linkerd/proxy=./no.tar: there is no ./no.tar", "mend:"}},
		{"a chart folder that is not there", []string{"--chart", "linkerd-crds=./no"}, []string{"--chart linkerd-crds=./no: there is no ./no"}},
		{"no name", []string{"--image", "registry.example/x:1"}, []string{"want NAME=WHERE"}},
		{"nothing given", []string{"--chart", "vault="}, []string{"--chart vault=: want NAME=WHERE"}},
		{"a chart that is none", []string{"--chart", "vault=vault"}, []string{"--chart vault=vault", "want a path that begins with ./ or /"}},
		{"one image twice", []string{"--image", "linkerd/proxy=a:1", "--image", "linkerd-proxy=b:1"}, []string{"image linkerd-proxy is given twice"}},
		{"a file that is not there", []string{"--overrides", "/no/such.yaml"}, []string{"overrides file /no/such.yaml is not there"}},
		{"a file with an unknown name", []string{"--overrides", file(head + "  images: {linkerd/prxy: \"x:1\"}\n")}, []string{"mine.yaml:4:12:", "linkerd/prxy"}},
		{"a file with an unknown key", []string{"--overrides", file(head + "  image: {}\n")}, []string{"mine.yaml:4:3:", `unknown key "image"`}},
		{"a file that names a missing one", []string{"--overrides", file(head + "  charts: {vault: ./no}\n")}, []string{"mine.yaml:4: there is no ./no"}},
	}
	commands := [][]string{{"up"}, {"run", "mtls-rollout"}, {"bundle", "pull"}, {"bundle", "build"}}
	for _, c := range flags {
		for _, command := range commands {
			t.Run(c.name+" for "+strings.Join(command, " "), func(t *testing.T) {
				code, _, stderr := run(t, append(slices.Clone(command), c.flags...)...)
				require.Equal(t, 2, code, stderr)
				for _, want := range c.want {
					require.Contains(t, stderr, want)
				}
			})
		}
	}
	shipped, err := os.ReadFile("../../scenarios/mtls-rollout.yaml")
	require.NoError(t, err)
	scenario := filepath.Join(t.TempDir(), "scenario.yaml")
	require.NoError(t, os.WriteFile(scenario, []byte(strings.Replace(string(shipped), "spec:\n", "spec:\n  overrides: {charts: {linkerd-crds: ./no}}\n", 1)), 0o600))
	code, _, stderr := run(t, "run", scenario)
	require.Equal(t, 2, code, stderr)
	require.Regexp(t, `scenario.yaml:\d+: there is no ./no`, stderr)
	code, _, stderr = run(t, "run", "mtls-rollout", "--mesh", "istio")
	require.Equal(t, 2, code, stderr)
	require.Contains(t, stderr, "--mesh=istio: there are linkerd and fakemesh")
}

func TestFlagsWinOverTheFileAndTheFileOverTheScenario(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(path, []byte("apiVersion: meshsim.dev/v1alpha1\nkind: Overrides\nspec: {images: {linkerd/proxy: \"file:1\", linkerd/controller: \"file:1\"}}\n"), 0o600))
	var scenario bundle.Overrides
	for _, n := range []string{"linkerd/proxy", "linkerd/controller", "linkerd/proxy-init"} {
		require.NoError(t, scenario.AddImage(n, ".", bundle.Override{From: "scenario:1"}))
	}
	f := overrideFlags{images: []string{"linkerd-proxy=flag:1"}, file: path}
	all, err := f.read(scenario)
	require.NoError(t, err)
	from := map[string]string{}
	for n, o := range all.Images {
		from[n] = o.From
	}
	require.Equal(t, map[string]string{"linkerd-proxy": "flag:1", "linkerd-controller": "file:1", "linkerd-proxy-init": "scenario:1"}, from)
}

func TestABundleListsWhatWasGivenWithItsDigest(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	given := strings.TrimPrefix(server.URL, "http://") + "/my/proxy:patched"
	ref, err := name.ParseReference(given)
	require.NoError(t, err)
	img, err := random.Image(500, 1)
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, img))
	digest, err := img.Digest()
	require.NoError(t, err)
	chart := filepath.Join(t.TempDir(), "linkerd-crds")
	require.NoError(t, os.MkdirAll(chart, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte("apiVersion: v2\nname: linkerd-crds\nversion: 1.8.0\n"), 0o600))

	code, stdout, stderr := run(t, "bundle", "build", "--only", "linkerd-proxy", "--image", "linkerd/proxy="+given, "--chart", "linkerd-crds="+chart)
	require.Equal(t, 0, code, stderr)
	require.Regexp(t, `linkerd-proxy +patched +pulled, given: `+given+` +`+digest.Hex[:12], stdout)
	require.Regexp(t, `linkerd-crds +1\.8\.0 +local, given: `+chart+` +[0-9a-f]{12}`, stdout)

	code, _, stderr = run(t, "bundle", "build", "--only", "linkerd-proxy", "--image", "linkerd/proxy="+given+"-gone")
	require.Equal(t, 4, code, stderr)
	require.Contains(t, stderr, "take linkerd-proxy from "+given+"-gone (--image linkerd/proxy="+given+"-gone)")
}

// parts is a bundle that has what its names say.
type parts []string

func (p parts) Image(n string) (bundle.Image, error) {
	if !slices.Contains(p, n) {
		return bundle.Image{}, errors.New("no image")
	}
	return bundle.Image{Name: n}, nil
}

func (p parts) Chart(n string) (string, error) {
	if !slices.Contains(p, n) {
		return "", errors.New("no chart")
	}
	return n, nil
}

func TestLinkerdIsTheMeshWhereTheBundleHasAllOfIt(t *testing.T) {
	all := parts{"linkerd-controller", "linkerd-policy-controller", "linkerd-proxy", "linkerd-proxy-init", "linkerd-crds", "linkerd-control-plane"}
	for _, c := range []struct {
		name, asked string
		has         parts
		want, wrong string
	}{
		{"all of it", "", all, "linkerd", ""},
		{"all of it, and it is asked for", "linkerd", all, "linkerd", ""},
		{"all of it, but the stand-in is asked for", "fakemesh", all, "fakemesh", ""},
		{"nothing of it", "", nil, "fakemesh", ""},
		{"nothing of it, and it is asked for", "linkerd", nil, "", "the bundle holds no Linkerd"},
		{"a part of it", "", all[1:], "", "lacks image linkerd-controller"},
		{"a part of it, and it is asked for", "linkerd", all[:4], "", "lacks chart linkerd-crds, chart linkerd-control-plane"},
		{"a part of it, and the stand-in is asked for", "fakemesh", all[1:], "fakemesh", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := chooseMesh(c.asked, c.has)
			if c.wrong != "" {
				require.ErrorContains(t, err, c.wrong)
				require.Equal(t, 2, exitCode(t.Context(), err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

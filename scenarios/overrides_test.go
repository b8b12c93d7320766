package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/fault"
)

const someOverrides = `apiVersion: meshsim.dev/v1alpha1
kind: Overrides
spec:
  images:
    linkerd/proxy: registry.example/proxy:patched
    linkerd-controller: ./controller.tar
  charts:
    linkerd-control-plane: oci://registry.example/charts/linkerd-control-plane:1.16.11
`

func TestAFileOfOverridesIsReadWithItsLines(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.yaml")
	require.NoError(t, os.WriteFile(file, []byte(someOverrides), 0o644))
	o, err := LoadOverrides(file)
	require.NoError(t, err)
	require.Len(t, o.Images, 2)
	proxy := o.Images["linkerd-proxy"]
	require.Equal(t, [2]string{"registry.example/proxy:patched", file + ":5"}, [2]string{proxy.From, proxy.By})
	require.Equal(t, "oci://registry.example/charts/linkerd-control-plane:1.16.11", o.Charts["linkerd-control-plane"].From)
	err = o.Check()
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, file+":6: there is no ./controller.tar")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "controller.tar"), nil, 0o644))
	require.NoError(t, o.Check(), "a path is relative to the file that names it")
}

func TestWrongOverridesAreToldWithTheirPlace(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(someOverrides, old, new, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"an empty file":      {"", "o.yaml:1:1: the file is empty"},
		"two documents":      {someOverrides + "---\na: 1\n", "o.yaml:9:1: an overrides file holds one document"},
		"another kind":       {edit("kind: Overrides", "kind: Scenario"), `o.yaml:2:7: kind should be one of Overrides, not "Scenario"`},
		"an unknown key":     {edit("  charts:", "  chart:"), `o.yaml:7:3: unknown key "chart" in spec; known are: charts, images`},
		"an unknown image":   {edit("linkerd/proxy:", "linkerd/prxy:"), `o.yaml:5:5: there is no image "linkerd/prxy"; known are: node, cert-manager-controller`},
		"an unknown chart":   {edit("linkerd-control-plane: oci", "linkerd2: oci"), `o.yaml:8:5: there is no chart "linkerd2"; known are: cert-manager, linkerd-crds`},
		"a number":           {edit("./controller.tar", "5"), "o.yaml:6:25: images.linkerd-controller should be a text, not the number 5"},
		"nothing":            {edit("./controller.tar", `""`), "o.yaml:6:25: images.linkerd-controller should not be empty"},
		"a list":             {edit("  images:\n    linkerd/proxy: registry.example/proxy:patched\n    linkerd-controller: ./controller.tar", "  images: [a]"), "o.yaml:4:11: images should be a mapping, not a list"},
		"one image by twice": {edit("linkerd-controller: ./controller.tar", "linkerd-proxy: ./p.tar"), "o.yaml:6:5: image linkerd-proxy is given twice"},
		"no spec":            {"apiVersion: meshsim.dev/v1alpha1\nkind: Overrides\n", `o.yaml:1:1: the overrides file needs the key "spec"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseOverrides("o.yaml", []byte(c.text))
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := LoadOverrides(filepath.Join(t.TempDir(), "gone.yaml"))
	require.ErrorContains(t, err, "gone.yaml is not there")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestAScenarioBringsItsOwnImagesAndCharts(t *testing.T) {
	text := strings.Replace(smallest, "spec:\n", "spec:\n  overrides:\n    images: {linkerd/proxy-init: \"registry.example/init:1\"}\n    charts: {vault: ./vault}\n", 1)
	s, err := Parse("dir/demo.yaml", []byte(text))
	require.NoError(t, err)
	require.Equal(t, "registry.example/init:1", s.Spec.Overrides.Images["linkerd-proxy-init"].From)
	require.ErrorContains(t, s.Spec.Overrides.Check(), "dir/demo.yaml:7: there is no ./vault")
	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	require.Contains(t, b.String(), "Overrides\n  image linkerd-proxy-init from registry.example/init:1\n  chart vault from ./vault\n")

	problems := problemsOf(t, strings.Replace(text, "linkerd/proxy-init", "linkerd/init", 1))
	require.Len(t, problems, 1)
	require.Equal(t, [2]int{6, 14}, [2]int{problems[0].Line, problems[0].Column})
	require.Contains(t, problems[0].Message, `there is no image "linkerd/init"`)
}

func FuzzParseOverrides(f *testing.F) {
	f.Add(someOverrides)
	f.Add("apiVersion: meshsim.dev/v1alpha1\nkind: Overrides\nspec: {images: {? [a] : b}}")
	f.Add("spec: &a\n  images: *a")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOverrides("o.yaml", []byte(text))
		if err == nil {
			for name, from := range o.Images {
				if name == "" || from.From == "" || !strings.HasPrefix(from.By, "o.yaml:") {
					t.Fatalf("image %q was taken as %+v", name, from)
				}
			}
			return
		}
		if _, ok := errors.AsType[*Problems](err); !ok || fault.KindOf(err) != fault.Invalid || !(bundle.Overrides{}).Empty() {
			t.Fatalf("not a list of problems: %v", err)
		}
	})
}

package bundle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestAnOverrideIsNamedAsInTheLockOrAsWhatIsPublished(t *testing.T) {
	for given, want := range map[string]string{
		"linkerd-proxy":                    "linkerd-proxy",
		"linkerd/proxy":                    "linkerd-proxy",
		"linkerd/controller":               "linkerd-controller",
		"linkerd/policy-controller":        "linkerd-policy-controller",
		"linkerd/proxy-init":               "linkerd-proxy-init",
		"jetstack/cert-manager-webhook":    "cert-manager-webhook",
		"library/postgres":                 "postgres",
		"fakeshop":                         "fakeshop",
		"metrics-server/metrics-server":    "metrics-server",
		"jetstack/cert-manager-cainjector": "cert-manager-cainjector",
	} {
		var o Overrides
		require.NoError(t, o.AddImage(given, ".", Override{From: "registry.example/x:1"}), given)
		require.Contains(t, o.Images, want, given)
	}
}

func TestAnOverrideThatMakesNoSenseIsRefusedBeforeAnythingIsFetched(t *testing.T) {
	image := func(name, from string) error { return (&Overrides{}).AddImage(name, ".", Override{From: from}) }
	chart := func(name, from string) error { return (&Overrides{}).AddChart(name, ".", Override{From: from}) }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"an unknown image":               {image("linkerd/prxy", "x:1"), `there is no image "linkerd/prxy"; known are: node, cert-manager-controller`},
		"an unknown chart":               {chart("linkerd", "./x"), `there is no chart "linkerd"; known are: cert-manager, linkerd-crds, linkerd-control-plane, vault`},
		"an image as a chart":            {chart("linkerd-proxy", "./x"), `there is no chart "linkerd-proxy"`},
		"no reference":                   {image("vault", "what is this"), "is neither an image's reference nor a path"},
		"a chart that is a bare word":    {chart("vault", "vault"), "want a path that begins with ./ or /, oci://… or https://…"},
		"a chart of another scheme":      {chart("vault", "ftp://example/vault"), "is no chart"},
		"a chart's address with a login": {chart("vault", "https://me:secret@charts.example/x"), "must hold no user or password"},
		"an OCI reference of nothing":    {chart("vault", "oci://"), "is no chart's reference"},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, c.err, c.want) })
	}
	require.NotContains(t, chart("vault", "https://me:secret@charts.example/x").Error(), "secret")
	var twice Overrides
	require.NoError(t, twice.AddImage("linkerd/proxy", ".", Override{From: "a:1"}))
	require.ErrorContains(t, twice.AddImage("linkerd-proxy", ".", Override{From: "b:1"}), "image linkerd-proxy is given twice, as a:1 and b:1")
}

func TestWhatBeginsOrEndsLikeAPathIsOne(t *testing.T) {
	for from, want := range map[string]string{
		"./x":                          "/dir/x",
		"../x.tgz":                     "/x.tgz",
		"/abs/./x":                     "/abs/x",
		".":                            "/dir",
		"proxy.tar":                    "/dir/proxy.tar",
		"charts/x.tgz":                 "/dir/charts/x.tgz",
		"x.tar.gz":                     "/dir/x.tar.gz",
		"registry.example/proxy:1":     "",
		"proxy":                        "",
		"oci://registry.example/x:1":   "",
		"https://charts.example/x.tgz": "",
	} {
		require.Equal(t, want, localPath(from, "/dir"), from)
	}
}

func TestAMissingFileIsWrongUseAndSaysWhoNamedIt(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "there.tgz"), nil, 0o644))
	var o Overrides
	require.NoError(t, o.AddChart("vault", dir, Override{From: "./there.tgz", By: "--chart vault=./there.tgz"}))
	require.NoError(t, o.Check())
	require.NoError(t, o.AddImage("linkerd/proxy", dir, Override{From: "./gone.tar", By: "--image linkerd/proxy=./gone.tar"}))
	require.NoError(t, o.AddChart("linkerd-crds", dir, Override{From: "./nowhere", By: "mine.yaml:7"}))
	err := o.Check()
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, "--image linkerd/proxy=./gone.tar: there is no ./gone.tar\nmine.yaml:7: there is no ./nowhere")
}

func TestTheFirstHasTheLastWord(t *testing.T) {
	low := Overrides{Images: map[string]Override{"a": {From: "low"}, "b": {From: "low"}}}
	high := Overrides{Images: map[string]Override{"a": {From: "high"}}, Charts: map[string]Override{"c": {From: "high"}}}
	all := high.Over(low)
	require.Equal(t, map[string]Override{"a": {From: "high"}, "b": {From: "low"}}, all.Images)
	require.Equal(t, map[string]Override{"c": {From: "high"}}, all.Charts)
	require.Equal(t, "low", low.Images["a"].From, "what it was laid over stays")
	require.True(t, Overrides{}.Over(Overrides{}).Empty())
}

func FuzzOverrides(f *testing.F) {
	f.Add("linkerd/proxy", "registry.example/proxy@sha256:00")
	f.Add("linkerd-crds", "oci://registry.example/charts/linkerd-crds:1.8.0")
	f.Add("vault", "https://user:pass@charts.example")
	f.Fuzz(func(t *testing.T, name, from string) {
		var o Overrides
		if o.AddImage(name, ".", Override{From: from}) == nil && len(o.Images) != 1 {
			t.Errorf("image %q from %q was taken as %v", name, from, o.Images)
		}
		if o.AddChart(name, ".", Override{From: from}) == nil && len(o.Charts) != 1 {
			t.Errorf("chart %q from %q was taken as %v", name, from, o.Charts)
		}
	})
}

package bundle

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

func TestMirrorHostsSendEachRegistryToTheBundlesOwn(t *testing.T) {
	b := &Bundle{rec: record{Images: []Image{
		{Name: "a", Ref: "meshsim.local/a:1"}, {Name: "b", Ref: "quay.io/jetstack/b:1"},
		{Name: "c", Ref: "docker.io/library/c:1"}, {Name: "d", Ref: "quay.io/x/d:1"},
	}}}
	hosts, err := b.MirrorHosts("http://x-registry:5000")
	require.NoError(t, err)
	const mirror = "\n[host.\"http://x-registry:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
	require.Equal(t, map[string]string{
		"meshsim.local": "server = \"http://x-registry:5000\"\n" + mirror,
		"quay.io":       "server = \"https://quay.io\"\n" + mirror,
		"docker.io":     "server = \"https://registry-1.docker.io\"\n" + mirror,
	}, hosts)
}

// dockerCommand is an engine that is reached by the plain docker command.
type dockerCommand struct{}

func (dockerCommand) Docker(args ...string) command.Cmd {
	return command.Cmd{Argv: append([]string{"docker"}, args...)}
}

func TestAnImageIsLoadedOnlyWhenTheEngineHasAnother(t *testing.T) {
	b, _ := builtTiny(t)
	i := b.Images()[0]
	there := ""
	var loaded []byte
	fake := &command.Fake{Respond: func(c command.Cmd) (out command.Output, err error) {
		if c.Argv[1] == "load" {
			loaded, err = io.ReadAll(c.Stdin)
			return command.Output{}, err
		}
		if there == "" {
			return command.Output{}, errors.New("no such image")
		}
		return command.Output{Stdout: []byte(there + "\n")}, nil
	}}
	inspect := "docker image inspect --format {{.Id}} " + i.Ref
	require.NoError(t, b.LoadIntoEngine(t.Context(), dockerCommand{}, fake, "tiny"))
	require.Equal(t, []string{inspect, "docker load --quiet"}, fake.Lines())
	tag, err := name.NewTag(i.Ref)
	require.NoError(t, err)
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(loaded)), nil }, &tag)
	require.NoError(t, err)
	h, err := img.ConfigName()
	require.NoError(t, err)
	require.Equal(t, i.Config, h.String())

	there = i.Config
	require.NoError(t, b.LoadIntoEngine(t.Context(), dockerCommand{}, fake, "tiny"))
	require.Equal(t, []string{inspect, "docker load --quiet", inspect}, fake.Lines())
	there = "sha256:another"
	require.NoError(t, b.LoadIntoEngine(t.Context(), dockerCommand{}, fake, "tiny"))
	require.Equal(t, []string{inspect, "docker load --quiet"}, fake.Lines()[3:])
}

func TestAnEngineThatFailsToLoadIsAnEnvironmentFault(t *testing.T) {
	b, _ := builtTiny(t)
	fake := &command.Fake{Respond: func(command.Cmd) (command.Output, error) {
		return command.Output{}, errors.New("no space left on device")
	}}
	err := b.LoadIntoEngine(t.Context(), dockerCommand{}, fake, "tiny")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "no space left on device")
	err = b.LoadIntoEngine(t.Context(), dockerCommand{}, fake, "nothing")
	require.Equal(t, fault.Environment, fault.KindOf(err))
}

package rootfs

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/command"
)

func TestSourcesOfTheReleaseAreTakenMainArchiveFirst(t *testing.T) {
	got := parseSources(`http://mirror/debian-security/ bookworm-security main
https://elsewhere/apt/ nodistro main
http://mirror/debian/ bookworm main
http://mirror/debian/ bookworm contrib
http://mirror/debian/ bookworm-updates main
http://mirror/debian/ bookworm-backports main
`, "bookworm")
	require.Equal(t, []source{
		{"http://mirror/debian/", "bookworm", "main"},
		{"http://mirror/debian-security/", "bookworm-security", "main"},
		{"http://mirror/debian/", "bookworm-updates", "main"},
	}, got)
}

func TestAMachineOfAnotherReleaseUsesDebiansServers(t *testing.T) {
	got := parseSources("http://mirror/debian/ trixie main\n", "bookworm")
	require.Equal(t, []source{
		{"http://deb.debian.org/debian", "bookworm", "main"},
		{"http://deb.debian.org/debian-security", "bookworm-security", "main"},
	}, got)
}

func TestOnlyOptionsAboutReachingArchivesAreKept(t *testing.T) {
	got := filterAptOptions(`Acquire::http::Proxy "http://proxy:3142";
Acquire::https::CaInfo "/home/me/ca.crt";
Acquire::https::Proxy "DIRECT";
Acquire::Languages:: "de";
Acquire::Check-Date "false";
Acquire::cdrom::mount "/media";
`)
	require.Contains(t, got, `Acquire::http::Proxy "http://proxy:3142";`)
	require.Contains(t, got, `Acquire::https::Proxy "DIRECT";`)
	require.Contains(t, got, `Acquire::Check-Date "false";`)
	require.Contains(t, got, `Acquire::https::CaInfo "/etc/apt/meshsim-ca.crt";`)
	require.NotContains(t, got, "/home/me")
	require.NotContains(t, got, "cdrom")
	require.NotContains(t, got, `"de"`)
}

func TestPruneDeletesLeftoversAndWhatIsAsked(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"usr/share/doc/bash/README", "var/lib/apt/lists/x", "etc/passwd", "usr/lib/llvm/a"} {
		write(t, dir, f, "x")
	}
	require.NoError(t, Prune(dir, "usr/lib/ll*"))
	for name, there := range map[string]bool{
		"usr/share/doc": true, "usr/share/doc/bash": false, "var/lib/apt/lists": true,
		"var/lib/apt/lists/x": false, "etc/passwd": true, "usr/lib/llvm": false,
	} {
		_, err := os.Lstat(filepath.Join(dir, name))
		require.Equal(t, there, err == nil, name)
	}
	require.ErrorContains(t, Prune(dir, "../etc/*"), "leaves the tree")
}

func TestCommandsRunInNamespacesOfTheirOwnWithTheirFoldersBound(t *testing.T) {
	fake := &command.Fake{Respond: func(command.Cmd) (command.Output, error) {
		return command.Output{Stdout: []byte("bash 5.2\nlibc6 2.36-9\n")}, nil
	}}
	m := Maker{Runner: fake, Suite: "bookworm"}
	require.NoError(t, m.Run(context.Background(), "/tree", []Bind{{"/a", "/b"}}, "true", "x"))
	versions, err := m.Versions(context.Background(), "/tree")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"bash": "5.2", "libc6": "2.36-9"}, versions)
	line := fake.Lines()[0]
	require.Contains(t, line, "unshare --mount --pid --fork --kill-child --propagation private /bin/sh -euc")
	require.Contains(t, line, "sh /tree /a /b -- true x")
}

func TestRemoveDeletesATreeThatNothingIsMountedIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	write(t, dir, "a/b", "x")
	require.NoError(t, Remove(dir))
	require.NoFileExists(t, filepath.Join(dir, "a/b"))
	require.NoError(t, Remove(dir))
	require.ErrorContains(t, Remove("/"), "still mounted")
}

func write(t *testing.T, dir, rel, content string) {
	t.Helper()
	name := filepath.Join(dir, rel)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(content), 0o755))
}

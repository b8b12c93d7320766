package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"meshsim.dev/meshsim/clusters/command"
)

// source is one line of an apt sources list.
type source struct{ uri, release, component string }

// sources returns where this machine gets the release from, the main archive
// first, so that a local mirror or proxy is used inside the trees as well.
// A machine of another release gets Debian's own servers.
func (m Maker) sources(ctx context.Context) ([]source, error) {
	out, err := m.Runner.Run(ctx, command.Cmd{Argv: []string{
		"apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages",
	}, Env: aptEnv})
	if err != nil {
		return nil, fmt.Errorf("read this machine's apt sources: %w", err)
	}
	return parseSources(string(out.Stdout), m.Suite), nil
}

func parseSources(targets, suite string) []source {
	var main, rest []source
	for _, line := range strings.Split(targets, "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		s := source{uri: f[0], release: f[1], component: f[2]}
		switch f[1] {
		case suite:
			main = append(main, s)
		case suite + "-updates", suite + "-security":
			rest = append(rest, s)
		}
	}
	if len(main) == 0 {
		return []source{
			{"http://deb.debian.org/debian", suite, "main"},
			{"http://deb.debian.org/debian-security", suite + "-security", "main"},
		}
	}
	return append(main, rest...)
}

// Files that apt needs inside a tree only while it runs.
const (
	aptConf  = "etc/apt/apt.conf.d/90meshsim"
	dpkgConf = "etc/dpkg/dpkg.cfg.d/90meshsim"
	policyRC = "usr/sbin/policy-rc.d"
	caBundle = "etc/apt/meshsim-ca.crt"
)

// prepareApt gives the tree this machine's sources, proxies, certificates and
// resolver; undo takes them away again.
func (m Maker) prepareApt(ctx context.Context, dir string, sources []source) (undo func(), err error) {
	var list strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&list, "deb %s %s %s\n", s.uri, s.release, s.component)
	}
	conf, err := m.aptOptions(ctx)
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"etc/apt/sources.list": list.String(),
		aptConf:                conf,
		dpkgConf:               "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\npath-exclude=/usr/share/lintian/*\n",
		policyRC:               "#!/bin/sh\nexit 101\n", // no service starts inside the tree
	}
	for from, to := range map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": caBundle, "/etc/resolv.conf": "etc/resolv.conf", "/etc/hosts": "etc/hosts",
	} {
		content, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[to] = string(content)
	}
	var written []string
	undo = func() {
		for _, name := range written {
			_ = os.Remove(name)
		}
	}
	for rel, content := range files {
		name := filepath.Join(dir, rel)
		written = append(written, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			undo()
			return nil, err
		}
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// aptOptions copies the options that say how archives are reached and trusted.
func (m Maker) aptOptions(ctx context.Context) (string, error) {
	out, err := m.Runner.Run(ctx, command.Cmd{Argv: []string{"apt-config", "dump", "--no-empty", "Acquire"}, Env: aptEnv})
	if err != nil {
		return "", fmt.Errorf("read this machine's apt options: %w", err)
	}
	return filterAptOptions(string(out.Stdout)), nil
}

func filterAptOptions(dump string) string {
	var kept strings.Builder
	kept.WriteString("Acquire::Languages \"none\";\nAcquire::https::CaInfo \"/" + caBundle + "\";\nAPT::Sandbox::User \"root\";\n")
	for _, line := range strings.Split(dump, "\n") {
		key, _, _ := strings.Cut(line, " ")
		key = strings.ToLower(key)
		switch {
		case strings.HasPrefix(key, "acquire::http::"), strings.HasPrefix(key, "acquire::ftp::"),
			strings.HasPrefix(key, "acquire::https::") && key != "acquire::https::cainfo",
			key == "acquire::check-valid-until", key == "acquire::check-date", key == "acquire::retries":
			kept.WriteString(line + "\n")
		}
	}
	return kept.String()
}

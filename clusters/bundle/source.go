package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	gobuild "go/build"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"meshsim.dev/meshsim/clusters/fault"
)

// modulePath is the module a source checkout must be of.
const modulePath = "meshsim.dev/meshsim"

// checkout is a source tree of this project.
type checkout string

// CheckSource says whether dir is a checkout that bundles can be built from. The
// error is a fault.Invalid.
func CheckSource(dir string) error {
	_, err := openCheckout(dir)
	return err
}

// openCheckout says whether dir is a checkout that bundles can be built from.
func openCheckout(dir string) (checkout, error) {
	const mend = "run it inside a clone of the project, or name one with --source; a machine without one takes `meshsim bundle load`"
	if dir == "" {
		return "", fault.NewInvalid(errors.New("a source checkout is needed, and none was named"), mend)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(abs, "go.mod"))
	if err != nil {
		return "", fault.NewInvalid(fmt.Errorf("%s is no source checkout: %w", dir, err), mend)
	}
	first, _, _ := strings.Cut(string(mod), "\n")
	if strings.TrimSpace(first) != "module "+modulePath {
		return "", fault.NewInvalid(fmt.Errorf("%s is not a checkout of %s", dir, modulePath), mend)
	}
	return checkout(abs), nil
}

// upstream is the folder that pins an upstream.
func (c checkout) upstream(name string) string {
	return filepath.Join(string(c), "clusters", "bundle", "upstream", name)
}

// requires returns the version of a module in go.mod.
func (c checkout) requires(module string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(string(c), "go.mod"))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(mod), "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && f[0] == module {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("go.mod requires no %s", module)
}

// programFiles lists, relative to the checkout, everything that a program of
// ours is compiled from: the files of its package and of those of our packages it
// imports, and what they embed.
func (c checkout) programFiles(pkg string) ([]string, error) {
	seen := map[string]bool{}
	var files []string
	todo := []string{path.Clean(pkg)}
	for len(todo) > 0 {
		dir := todo[0]
		todo = todo[1:]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		found, imports, err := c.packageFiles(dir)
		if err != nil {
			return nil, fmt.Errorf("sources of %s: %w", pkg, err)
		}
		files = append(files, found...)
		todo = append(todo, imports...)
	}
	sort.Strings(files)
	return slices.Compact(files), nil
}

// packageFiles returns the files of one package folder and the folders of the
// packages of ours that it imports. What only lies there counts for nothing: run
// folders are kept within a package's.
func (c checkout) packageFiles(dir string) (files, imports []string, err error) {
	target := gobuild.Default
	target.GOOS, target.GOARCH, target.CgoEnabled = "linux", goarch, false
	pkg, err := target.ImportDir(filepath.Join(string(c), dir), 0)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Concat(pkg.GoFiles, pkg.SFiles, pkg.HFiles) {
		files = append(files, path.Join(dir, name))
	}
	for _, pattern := range pkg.EmbedPatterns {
		found, err := c.embedded(dir, pattern)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: go:embed %s: %w", dir, pattern, err)
		}
		files = append(files, found...)
	}
	for _, name := range pkg.Imports {
		if ours, is := strings.CutPrefix(name, modulePath+"/"); is {
			imports = append(imports, ours)
		}
	}
	return files, imports, nil
}

// embedded lists the files that a pattern of go:embed in a package's folder names.
// As the compiler does, it leaves out hidden files of a named folder unless the
// pattern begins with "all:".
func (c checkout) embedded(dir, pattern string) (files []string, err error) {
	tree := os.DirFS(string(c))
	pattern, all := strings.CutPrefix(pattern, "all:")
	named, err := fs.Glob(tree, path.Join(dir, pattern))
	if err != nil {
		return nil, err
	}
	for _, root := range named {
		err := fs.WalkDir(tree, root, func(name string, d fs.DirEntry, err error) error {
			hidden := err == nil && strings.ContainsAny(d.Name()[:1], "._")
			switch {
			case err != nil:
				return err
			case hidden && !all && name != root:
				if d.IsDir() {
					return fs.SkipDir
				}
			case d.Type().IsRegular():
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// fingerprint is a SHA-256 over parts that cannot run into each other.
type fingerprint struct{ parts []string }

func (f *fingerprint) add(parts ...string) { f.parts = append(f.parts, parts...) }

// addFiles takes names (relative to root) and contents.
func (f *fingerprint) addFiles(root string, names ...string) error {
	for _, n := range names {
		file, err := os.Open(filepath.Join(root, n))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, file)
		file.Close()
		if err != nil {
			return err
		}
		f.add(n, hex.EncodeToString(h.Sum(nil)))
	}
	return nil
}

// addTree takes every regular file below root.
func (f *fingerprint) addTree(root string) error {
	var names []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return err
	}
	sort.Strings(names)
	return f.addFiles(root, names...)
}

// sum returns 64 hexadecimal digits.
func (f *fingerprint) sum() string {
	h := sha256.New()
	for _, p := range f.parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

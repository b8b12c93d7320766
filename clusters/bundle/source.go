package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
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
// ours is compiled from: the non-test files of its package and of those of our
// packages it imports, and data folders below them (for embedding).
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
// packages of ours that it imports.
func (c checkout) packageFiles(dir string) (files, imports []string, err error) {
	entries, err := os.ReadDir(filepath.Join(string(c), dir))
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		rel := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			data, err := c.dataFiles(rel)
			if err != nil {
				return nil, nil, err
			}
			files = append(files, data...)
		case strings.HasSuffix(rel, "_test.go") || !e.Type().IsRegular():
		case strings.HasSuffix(rel, ".go"):
			files = append(files, rel)
			found, err := ourImports(filepath.Join(string(c), rel))
			if err != nil {
				return nil, nil, err
			}
			imports = append(imports, found...)
		default:
			files = append(files, rel)
		}
	}
	return files, imports, nil
}

// dataFiles lists what is below a folder that holds no Go package.
func (c checkout) dataFiles(dir string) ([]string, error) {
	if strings.HasPrefix(path.Base(dir), ".") || path.Base(dir) == "testdata" {
		return nil, nil
	}
	if pkgs, _ := filepath.Glob(filepath.Join(string(c), dir, "*.go")); len(pkgs) > 0 {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(string(c), dir, "go.mod")); err == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(string(c), dir))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		rel := path.Join(dir, e.Name())
		if e.IsDir() {
			below, err := c.dataFiles(rel)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		} else if e.Type().IsRegular() {
			files = append(files, rel)
		}
	}
	return files, nil
}

// ourImports returns the folders of our packages that a Go file imports.
func ourImports(name string) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		if dir, ours := strings.CutPrefix(p, modulePath+"/"); ours {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
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

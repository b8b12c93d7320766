package rootfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// Closure returns every path of the tree at dir that the wanted ones need:
// the links on the way, what is below wanted folders, and the shared
// libraries and loaders of every program among them. Wanted are absolute paths
// or globs inside the tree; one that matches nothing is an error.
func Closure(dir string, wanted []string) ([]string, error) {
	c := &closure{root: dir, seen: map[string]bool{}}
	for _, w := range wanted {
		matches, err := filepath.Glob(filepath.Join(dir, w))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", w, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("nothing in the Debian tree matches %q", w)
		}
		for _, m := range matches {
			rel, err := filepath.Rel(dir, m)
			if err != nil {
				return nil, err
			}
			if err := c.add("/" + filepath.ToSlash(rel)); err != nil {
				return nil, err
			}
		}
	}
	paths := make([]string, 0, len(c.seen))
	for p := range c.seen {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	return paths, nil
}

type closure struct {
	root string
	seen map[string]bool
}

// maxLinks ends a chain of symlinks that leads in a circle.
const maxLinks = 40

// add takes p with everything it needs. p may lead through symlinks; they are
// taken as well.
func (c *closure) add(p string) error {
	real, info, err := c.resolve(p)
	if err != nil {
		return err
	}
	if c.seen[real] {
		return nil
	}
	c.seen[real] = true
	if info.IsDir() {
		entries, err := os.ReadDir(filepath.Join(c.root, real))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.add(path.Join(real, e.Name())); err != nil {
				return fmt.Errorf("below %s: %w", real, err)
			}
		}
		return nil
	}
	if info.Mode().IsRegular() {
		return c.addLibraries(real)
	}
	return nil
}

// resolve walks p component by component inside the tree, notes each symlink
// and folder on the way, and returns the path that has no links. A link that
// leads nowhere is noted and returned as it is.
func (c *closure) resolve(p string) (string, fs.FileInfo, error) {
	links := 0
	done, todo := "/", strings.Split(strings.Trim(path.Clean(p), "/"), "/")
	for {
		if len(todo) == 0 || todo[0] == "" {
			info, err := os.Lstat(filepath.Join(c.root, done))
			return done, info, err
		}
		next := path.Join(done, todo[0])
		info, err := os.Lstat(filepath.Join(c.root, next))
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			if len(todo) > 1 {
				c.seen[next] = c.seen[next] || false
			}
			done, todo = next, todo[1:]
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%s: too many symbolic links", p)
		}
		c.seen[next] = true
		target, err := os.Readlink(filepath.Join(c.root, next))
		if err != nil {
			return "", nil, err
		}
		if !path.IsAbs(target) {
			target = path.Join(done, target)
		}
		if _, err := os.Lstat(filepath.Join(c.root, target)); errors.Is(err, fs.ErrNotExist) {
			return next, info, nil
		}
		done, todo = "/", append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), todo[1:]...)
	}
}

func (c *closure) addLibraries(p string) error {
	f, err := elf.Open(filepath.Join(c.root, p))
	if err != nil {
		return nil // not a program
	}
	defer f.Close()
	if loader := interpreter(f); loader != "" {
		if err := c.add(loader); err != nil {
			return fmt.Errorf("loader of %s: %w", p, err)
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil // statically linked
	}
	dirs := searchPath(f, path.Dir(p))
	for _, lib := range needed {
		found := false
		for _, d := range dirs {
			candidate := path.Join(d, lib)
			if _, err := os.Lstat(filepath.Join(c.root, candidate)); err != nil {
				continue
			}
			if err := c.add(candidate); err != nil {
				return fmt.Errorf("library %s of %s: %w", lib, p, err)
			}
			found = true
			break
		}
		if !found {
			return fmt.Errorf("library %s of %s is not in the Debian tree", lib, p)
		}
	}
	return nil
}

func interpreter(f *elf.File) string {
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, prog.Filesz)
		if _, err := prog.ReadAt(b, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(b), "\x00")
	}
	return ""
}

// triplets names Debian's library folders by processor.
var triplets = map[elf.Machine]string{
	elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu",
}

func searchPath(f *elf.File, origin string) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, _ := f.DynString(tag)
		for _, v := range values {
			for _, d := range strings.Split(v, ":") {
				dirs = append(dirs, strings.ReplaceAll(d, "$ORIGIN", origin))
			}
		}
	}
	t := triplets[f.Machine]
	return append(dirs, "/usr/lib/"+t, "/lib/"+t, "/usr/lib", "/lib", "/lib64", "/usr/lib64")
}

// Package pack makes container images out of files, without a container
// engine. The same files give the same digests: entries are sorted, and every
// timestamp is the epoch.
package pack

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// Entry is one file, folder or link of a layer.
type Entry struct {
	Path     string      // absolute in the image, slash-separated
	Mode     fs.FileMode // type bits (directory, symlink) and permissions, setuid included
	UID, GID int
	Link     string // target of a symlink
	Content  []byte // of a regular file, when Source is ""
	Source   string // file on this machine that holds the content
	inode    uint64 // not 0: files with the same inode become hard links
}

// Dir is a folder.
func Dir(p string, perm fs.FileMode) Entry {
	return Entry{Path: p, Mode: fs.ModeDir | perm}
}

// File is a regular file with the given content.
func File(p string, perm fs.FileMode, content []byte) Entry {
	return Entry{Path: p, Mode: perm, Content: content}
}

// Copy is a regular file with the content of a file on this machine.
func Copy(p string, perm fs.FileMode, source string) Entry {
	return Entry{Path: p, Mode: perm, Source: source}
}

// Symlink points from p to target.
func Symlink(p, target string) Entry {
	return Entry{Path: p, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// Tree reads everything below root into entries below prefix, with owners and
// modes as they are. Devices, sockets and pipes are left out. skip, when not
// nil, is asked with each image path; a skipped folder is not entered.
func Tree(root, prefix string, skip func(p string) bool) ([]Entry, error) {
	var entries []Entry
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		p := path.Join("/", prefix, filepath.ToSlash(rel))
		if p == "/" {
			return nil
		}
		if skip != nil && skip(p) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		e, ok, err := FromDisk(name, p)
		if err != nil {
			return err
		}
		if ok {
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree %s: %w", root, err)
	}
	return entries, nil
}

// FromDisk makes the entry p of the file called name; ok is false for what an
// image cannot hold (devices, sockets, pipes).
func FromDisk(name, p string) (e Entry, ok bool, err error) {
	info, err := os.Lstat(name)
	if err != nil {
		return Entry{}, false, err
	}
	e = Entry{Path: p, Mode: info.Mode()}
	if st, is := info.Sys().(*syscall.Stat_t); is {
		e.UID, e.GID = int(st.Uid), int(st.Gid)
		if info.Mode().IsRegular() && st.Nlink > 1 {
			e.inode = st.Ino
		}
	}
	switch info.Mode().Type() {
	case 0:
		e.Source = name
	case fs.ModeDir:
	case fs.ModeSymlink:
		if e.Link, err = os.Readlink(name); err != nil {
			return Entry{}, false, err
		}
	default:
		return Entry{}, false, nil
	}
	return e, true, nil
}

// arrange sorts entries, refuses two for one path (folders may be named
// twice: the last one wins) and adds the folders that are not named.
func arrange(entries []Entry) ([]Entry, error) {
	byPath := make(map[string]Entry, len(entries))
	for _, e := range entries {
		if !path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path || e.Path == "/" {
			return nil, fmt.Errorf("image path %q is not clean and absolute", e.Path)
		}
		if old, twice := byPath[e.Path]; twice && !(old.Mode.IsDir() && e.Mode.IsDir()) {
			return nil, fmt.Errorf("image path %s is given twice", e.Path)
		}
		byPath[e.Path] = e
	}
	for _, e := range entries {
		for p := path.Dir(e.Path); p != "/"; p = path.Dir(p) {
			parent, there := byPath[p]
			if there && !parent.Mode.IsDir() {
				return nil, fmt.Errorf("image path %s lies below %s, which is no folder", e.Path, p)
			}
			if there {
				break
			}
			byPath[p] = Dir(p, 0o755)
		}
	}
	out := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return lessPath(out[i].Path, out[j].Path) })
	return out, nil
}

// lessPath orders a folder before what is in it, and before its sisters.
func lessPath(a, b string) bool {
	return strings.ReplaceAll(a, "/", "\x00") < strings.ReplaceAll(b, "/", "\x00")
}

package rootfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAClosureHoldsLinksLibrariesAndLoader(t *testing.T) {
	dir := t.TempDir()
	const lib = "usr/lib/x86_64-linux-gnu/"
	write(t, dir, "usr/bin/tool", program(t, "/lib64/ld.so.2", "libone.so.1"))
	write(t, dir, "usr/bin/other", "not wanted")
	write(t, dir, lib+"libone.so.1.2", program(t, "", "libtwo.so"))
	write(t, dir, lib+"libtwo.so", program(t, "", "libone.so.1"))
	write(t, dir, lib+"ld-2.so", "the loader")
	write(t, dir, "usr/share/tool/a/data", "x")
	link(t, dir, "bin", "usr/bin")
	link(t, dir, "lib64", "usr/lib64")
	link(t, dir, "usr/lib64/ld.so.2", "/"+lib+"ld-2.so")
	link(t, dir, lib+"libone.so.1", "libone.so.1.2")

	got, err := Closure(dir, []string{"/bin/tool", "/usr/share/t*"})
	require.NoError(t, err)
	require.Equal(t, []string{
		"/bin", "/lib64", "/usr", "/usr/bin", "/usr/bin/tool", "/usr/lib", "/usr/lib/x86_64-linux-gnu",
		"/" + lib + "ld-2.so", "/" + lib + "libone.so.1", "/" + lib + "libone.so.1.2", "/" + lib + "libtwo.so",
		"/usr/lib64", "/usr/lib64/ld.so.2",
		"/usr/share", "/usr/share/tool", "/usr/share/tool/a", "/usr/share/tool/a/data",
	}, got)
}

func TestAClosureThatCannotBeWholeIsAnError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "bin/tool", program(t, "", "libgone.so"))
	link(t, dir, "bin/round", "round")
	for wanted, problem := range map[string]string{
		"/bin/tool":  "library libgone.so of /bin/tool is not in the Debian tree",
		"/bin/no*":   "nothing in the Debian tree matches",
		"/bin/round": "too many symbolic links",
		"[":          "syntax error in pattern",
	} {
		_, err := Closure(dir, []string{wanted})
		require.ErrorContains(t, err, problem, wanted)
	}
}

func TestALinkThatLeadsNowhereIsTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	link(t, dir, "etc/mtab", "/proc/mounts")
	got, err := Closure(dir, []string{"/etc/mtab"})
	require.NoError(t, err)
	require.Equal(t, []string{"/etc", "/etc/mtab"}, got)
}

func link(t *testing.T, dir, rel, target string) {
	t.Helper()
	name := filepath.Join(dir, rel)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.Symlink(target, name))
}

// program is a dynamically linked x86-64 program reduced to what the closure
// reads: its loader and the libraries it needs.
func program(t *testing.T, loader string, needed ...string) string {
	t.Helper()
	text := []byte{0}
	var dynamic []elf.Dyn64
	for _, n := range needed {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(text))})
		text = append(append(text, n...), 0)
	}
	dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	const header, prog, section = 64, 56, 64
	var dyn bytes.Buffer
	require.NoError(t, binary.Write(&dyn, binary.LittleEndian, dynamic))
	at := uint64(header + prog + 3*section)
	strings, dynAt := at, at+uint64(len(text))
	interp := dynAt + uint64(dyn.Len())
	var out bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
			Phoff: header, Shoff: header + prog, Ehsize: header, Phentsize: prog, Phnum: 1, Shentsize: section, Shnum: 3,
		},
		elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interp, Filesz: uint64(len(loader) + 1)},
		elf.Section64{},
		elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: strings, Size: uint64(len(text))},
		elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(dyn.Len()), Link: 1, Entsize: 16},
	} {
		require.NoError(t, binary.Write(&out, binary.LittleEndian, part))
	}
	out.Write(text)
	out.Write(dyn.Bytes())
	out.WriteString(loader + "\x00")
	return out.String()
}

package bundle

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

// tinyCheckout is a checkout with the program of smallLock and one beside it.
func tinyCheckout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                    "module meshsim.dev/meshsim\n\ngo 1.26\n",
		"go.sum":                    "",
		"tiny/cmd/tiny/main.go":     "package main\n\nimport \"meshsim.dev/meshsim/tiny/words\"\n\nfunc main() { println(words.Hello) }\n",
		"tiny/words/words.go":       "package words\n\nimport _ \"embed\"\n\n//go:embed data/hello.txt\nvar Hello string\n",
		"tiny/words/data/hello.txt": "hello\n",
		"tiny/words/words_test.go":  "package words\n",
		"tiny/words/deeper/a.go":    "package deeper\n",
		"other/other.go":            "package other\n",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	return dir
}

func put(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
}

func TestAProgramsFilesAreThoseItIsCompiledFrom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "of [1] glob")
	require.NoError(t, os.Rename(tinyCheckout(t), dir))
	for name, text := range map[string]string{
		"tiny/words/runs/1/run.json":     "{}",
		"tiny/words/notes.txt":           "not embedded\n",
		"tiny/words/words_windows.go":    "package words\n",
		"tiny/words/tree.go":             "package words\n\nimport \"embed\"\n\n//go:embed tree all:whole *.yaml\nvar Tree embed.FS\n",
		"tiny/words/a.yaml":              "a: 1\n",
		"tiny/words/tree/deep/b.txt":     "b\n",
		"tiny/words/tree/.hidden":        "c\n",
		"tiny/words/tree/_left/c.txt":    "c\n",
		"tiny/words/whole/_helpers.tpl":  "d\n",
		"tiny/words/whole/deep/plain.md": "e\n",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	files, err := checkout(dir).programFiles("./tiny/cmd/tiny")
	require.NoError(t, err)
	require.Equal(t, []string{"tiny/cmd/tiny/main.go", "tiny/words/a.yaml", "tiny/words/data/hello.txt", "tiny/words/tree.go", "tiny/words/tree/deep/b.txt",
		"tiny/words/whole/_helpers.tpl", "tiny/words/whole/deep/plain.md", "tiny/words/words.go"}, files)
}

// The compiler's own account of what it reads.
func TestOurProgramsFilesAreThoseThatTheGoCommandNames(t *testing.T) {
	lock, err := Locked()
	require.NoError(t, err)
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	var programs []string
	for _, image := range lock.Images {
		if image.Build == nil {
			continue
		}
		recipes := []Recipe{*image.Build}
		if image.Build.Node != nil {
			for _, baked := range image.Build.Node.Images {
				recipes = append(recipes, baked.Recipe)
			}
		}
		for _, r := range recipes {
			if isOwn(r.Program) {
				programs = append(programs, r.Program)
			}
		}
	}
	require.Len(t, programs, 7)
	for _, program := range programs {
		t.Run(filepath.Base(program), func(t *testing.T) {
			list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Dir,Module,GoFiles,SFiles,HFiles,EmbedFiles", program)
			list.Dir, list.Env = root, append(os.Environ(), goEnv()...)
			out, err := list.Output()
			require.NoError(t, err)
			var want []string
			for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
				var pkg struct {
					Dir                                 string
					Module                              *struct{ Path string }
					GoFiles, SFiles, HFiles, EmbedFiles []string
				}
				require.NoError(t, d.Decode(&pkg))
				if pkg.Module == nil || pkg.Module.Path != modulePath {
					continue
				}
				for _, name := range slices.Concat(pkg.GoFiles, pkg.SFiles, pkg.HFiles, pkg.EmbedFiles) {
					rel, err := filepath.Rel(root, filepath.Join(pkg.Dir, name))
					require.NoError(t, err)
					want = append(want, rel)
				}
			}
			slices.Sort(want)
			files, err := checkout(root).programFiles(program)
			require.NoError(t, err)
			require.NotEmpty(t, files)
			require.Equal(t, slices.Compact(want), files)
		})
	}
}

func TestOnlyACheckoutOfThisProjectIsOne(t *testing.T) {
	other := t.TempDir()
	put(t, filepath.Join(other, "go.mod"), "module example.com/other\n")
	for name, dir := range map[string]string{"none": "", "empty": t.TempDir(), "another project": other} {
		_, err := openCheckout(dir)
		require.Error(t, err, name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), name)
	}
	c, err := openCheckout(tinyCheckout(t))
	require.NoError(t, err)
	_, err = c.requires("sigs.k8s.io/kind")
	require.ErrorContains(t, err, "requires no sigs.k8s.io/kind")
}

func TestTheHashChangesWithWhatABundleIsMadeFromAndWithNothingElse(t *testing.T) {
	lock, err := ParseLock([]byte(smallLock))
	require.NoError(t, err)
	dir := tinyCheckout(t)
	hash := func() string {
		p, err := newPlan(lock, checkout(dir), selection{})
		require.NoError(t, err)
		return p.hash
	}
	first := hash()
	require.Len(t, first, 16)
	require.Equal(t, first, hash())
	put(t, filepath.Join(dir, "other/other.go"), "package other // changed\n")
	put(t, filepath.Join(dir, "tiny/words/words_test.go"), "package words // changed\n")
	require.Equal(t, first, hash(), "neither is compiled into the program")

	seen := map[string]bool{first: true}
	for file, text := range map[string]string{
		"tiny/words/data/hello.txt": "hullo\n",
		"tiny/words/more.go":        "package words\n",
		"go.sum":                    "example.com/x v1.0.0 h1:AAAA=\n",
	} {
		put(t, filepath.Join(dir, file), text)
		h := hash()
		require.False(t, seen[h], "%s changed, the hash did not", file)
		seen[h] = true
	}
	lock.Revision++
	require.False(t, seen[hash()], "a raised revision must make everything again")
}

func TestFingerprintPartsDoNotRunIntoEachOther(t *testing.T) {
	a, b := &fingerprint{}, &fingerprint{}
	a.add("ab", "c")
	b.add("a", "bc")
	require.NotEqual(t, a.sum(), b.sum())
}

func TestThePlanOfTheShippedLockKeepsKubernetesApartFromOurPrograms(t *testing.T) {
	lock, err := Locked()
	require.NoError(t, err)
	src, err := openCheckout("../..")
	require.NoError(t, err)
	p, err := newPlan(lock, src, selection{only: []string{"node", "registry", "cert-manager"}})
	require.NoError(t, err)
	at := map[string]int{}
	for i, c := range p.order {
		for _, d := range c.deps {
			_, there := at[d.name]
			require.True(t, there, "%s comes before %s, which it needs", c.name, d.name)
		}
		at[c.name] = i
	}
	require.Equal(t, []*component{p.parts["image-node"], p.parts["image-registry"]}, p.images)
	require.Empty(t, p.parts["go-kubernetes"].deps)
	require.NotContains(t, at, "go-vault")
	_, err = newPlan(lock, src, selection{only: []string{"nod"}})
	require.ErrorContains(t, err, `no image or chart "nod"`)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

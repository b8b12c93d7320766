package bundle

import (
	"os"
	"path/filepath"
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
	files, err := checkout(tinyCheckout(t)).programFiles("./tiny/cmd/tiny")
	require.NoError(t, err)
	require.Equal(t, []string{"tiny/cmd/tiny/main.go", "tiny/words/data/hello.txt", "tiny/words/words.go"}, files)
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

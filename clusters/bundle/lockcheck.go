package bundle

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// nameRule keeps names usable as folder names and image repositories.
var nameRule = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// check lists everything that is wrong with a lock.
func (l *Lock) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.APIVersion != "meshsim.dev/v1alpha1" || l.Kind != "BundleLock" {
		wrong("apiVersion and kind are %q, %q; want meshsim.dev/v1alpha1, BundleLock", l.APIVersion, l.Kind)
	}
	if len(l.Images) == 0 {
		wrong("there are no images")
	}
	unique := func(kind string) func(string) {
		seen := map[string]bool{}
		return func(n string) {
			if !nameRule.MatchString(n) {
				wrong("%s %q: not a name of lower-case letters, digits and single dashes", kind, n)
			}
			if seen[n] {
				wrong("%s %q is there twice", kind, n)
			}
			seen[n] = true
		}
	}
	upstream, tree, image, chart := unique("upstream"), unique("tree"), unique("image"), unique("chart")
	for _, u := range l.Upstreams {
		upstream(u.Name)
		if u.Version == "" || len(u.Programs) == 0 {
			wrong("upstream %q: version and programs are needed", u.Name)
		}
	}
	for _, t := range l.Debian.Trees {
		tree(t.Name)
		if len(t.Packages) == 0 {
			wrong("tree %q has no packages", t.Name)
		}
	}
	if len(l.Debian.Trees) > 0 && !nameRule.MatchString(l.Debian.Suite) {
		wrong("debian suite %q is no release name", l.Debian.Suite)
	}
	for _, i := range l.Images {
		image(i.Name)
		errs = append(errs, l.checkImage(i)...)
	}
	for _, c := range l.Charts {
		chart(c.Name)
		errs = append(errs, l.checkChart(c)...)
	}
	return errors.Join(errs...)
}

func (l *Lock) checkImage(i LockedImage) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("image %q: "+format, append([]any{i.Name}, args...)...))
	}
	if i.Pull == "" && i.Build == nil {
		wrong("neither pull nor build is given")
	}
	if i.Pull != "" {
		if _, err := name.ParseReference(i.Pull, name.StrictValidation); err != nil {
			wrong("pull: %v", err)
		}
	}
	if i.Build == nil {
		return errs
	}
	if i.Version == "" && !isOwn(i.Build.Program) {
		wrong("version is needed for what is not our own")
	}
	for _, p := range l.checkRecipe(*i.Build, true) {
		wrong("%s", p)
	}
	return errs
}

// checkRecipe returns what is wrong with r, in words.
func (l *Lock) checkRecipe(r Recipe, mayBeNode bool) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if n := r.Node; n != nil {
		if !mayBeNode || r.Program != "" || r.Tree != "" {
			wrong("node stands alone in a build")
		}
		return append(problems, l.checkNode(*n)...)
	}
	if r.Program == "" && r.Tree == "" {
		wrong("build needs a program, a tree or a node")
	}
	if r.Program != "" {
		if problem := l.checkProgram(r.Program); problem != "" {
			wrong("%s", problem)
		}
	}
	if _, ok := l.tree(r.Tree); r.Tree != "" && (!ok || len(r.Keep) == 0) {
		wrong("tree %q must be one of debian.trees, with something to keep", r.Tree)
	}
	if r.Tree == "" && (len(r.Keep) > 0 || len(r.Drop) > 0 || r.Package != "") {
		wrong("keep, drop and package need a tree")
	}
	paths := append(append(append([]string{}, r.Keep...), r.Drop...), sortedKeys(r.Links)...)
	for _, p := range append(append(paths, sortedKeys(r.Scripts)...), orRoot(r.At)) {
		if !path.IsAbs(p) || path.Clean(p) != p {
			wrong("path %q is not clean and absolute", p)
		}
	}
	return problems
}

func orRoot(p string) string {
	if p == "" {
		return "/"
	}
	return p
}

func (l *Lock) checkProgram(program string) string {
	if isOwn(program) {
		if !filepath.IsLocal(program) || path.Clean(program) != strings.TrimPrefix(program, "./") {
			return fmt.Sprintf("program %q leaves the checkout", program)
		}
		return ""
	}
	from, base, _ := strings.Cut(program, "/")
	if u, ok := l.upstream(from); !ok || !slices.Contains(u.Programs, base) {
		return fmt.Sprintf("program %q is in no upstream", program)
	}
	return ""
}

func (l *Lock) checkNode(n NodeRecipe) (problems []string) {
	if _, ok := l.tree(n.Tree); !ok {
		problems = append(problems, fmt.Sprintf("node tree %q is not one of debian.trees", n.Tree))
	}
	if _, ok := l.upstream(n.Kubernetes); !ok {
		problems = append(problems, fmt.Sprintf("node kubernetes %q is no upstream", n.Kubernetes))
	}
	if !nameRule.MatchString(n.CNI) {
		problems = append(problems, fmt.Sprintf("node cni %q is no name of a program of ours", n.CNI))
	}
	seen := map[string]bool{}
	for _, b := range n.Images {
		if _, err := name.NewTag(b.Ref, name.StrictValidation); err != nil {
			problems = append(problems, fmt.Sprintf("node image %q: %v", b.Ref, err))
		}
		if seen[b.Ref] {
			problems = append(problems, fmt.Sprintf("node image %q is there twice", b.Ref))
		}
		seen[b.Ref] = true
		for _, p := range l.checkRecipe(b.Recipe, false) {
			problems = append(problems, fmt.Sprintf("node image %q: %s", b.Ref, p))
		}
	}
	return problems
}

func (l *Lock) checkChart(c LockedChart) (errs []error) {
	if c.Version == "" {
		errs = append(errs, fmt.Errorf("chart %q: version is needed", c.Name))
	}
	if u, err := url.Parse(c.Pull); err != nil || u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("chart %q: pull %q is no https address", c.Name, c.Pull))
	}
	if c.Build != nil {
		if _, ok := l.upstream(c.Build.Upstream); !ok {
			errs = append(errs, fmt.Errorf("chart %q: %q is no upstream", c.Name, c.Build.Upstream))
		}
	}
	return errs
}

// isOwn says whether a recipe's program is a package of this checkout.
func isOwn(program string) bool { return strings.HasPrefix(program, "./") }

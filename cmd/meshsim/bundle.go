package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/fault"
)

func (a *app) newBundle() *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Build, pull, list, verify, save or load the images and charts",
		Long: `A bundle is every image and chart of a rehearsal, at the versions of one lock
file. build makes it from Go modules and Debian packages, pull takes the official
images and charts, save and load carry it to a machine with nothing.`,
		Example: "  meshsim bundle build\n  meshsim bundle list\n  meshsim bundle save bundle.tar",
		Args:    args(noArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newBundleBuild(), a.newBundlePull(), a.newBundleList(), a.newBundleVerify(), a.newBundleSave(), a.newBundleLoad())
	return c
}

// checkout is the source that a build needs.
func checkout(given string) (string, error) {
	source, err := sourceDir(given)
	if err == nil && source == "" {
		err = fault.NewInvalid(fmt.Errorf("there is no checkout of meshsim here to build from"), "run it inside one, or give --source DIR")
	}
	return source, err
}

func (a *app) newBundleBuild() *cobra.Command {
	var source string
	var only []string
	var given overrideFlags
	c := &cobra.Command{
		Use:   "build",
		Short: "Build every image from Go modules and Debian packages",
		Long: `Builds what is not there yet; an unchanged lock does no work. It may be
interrupted at any time and goes on where it was. What cannot be built, such as
Linkerd, can be given with --image and --chart.`,
		Example: "  meshsim bundle build\n  meshsim bundle build --only fakeshop,fakemesh\n  meshsim bundle build --overrides linkerd-from-files.yaml",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.cache()
			if err != nil {
				return err
			}
			overrides, err := given.read(bundle.Overrides{})
			if err != nil {
				return err
			}
			if source, err = checkout(source); err != nil {
				return err
			}
			b, err := bundle.Build(c.Context(), bundle.BuildOptions{
				Cache: dir, Source: source, Runner: a.runner, Log: a.log, Progress: a.progress,
				Only: only, Overrides: overrides,
			})
			if err != nil {
				return err
			}
			return a.printBundle(b)
		},
	}
	registerSource(c, &source)
	given.register(c)
	c.Flags().StringSliceVar(&only, "only", nil, "build only these images and charts, by name")
	return c
}

func (a *app) newBundlePull() *cobra.Command {
	var source, mirror string
	var only []string
	var given overrideFlags
	c := &cobra.Command{
		Use:     "pull",
		Short:   "Take the official images and charts from their registries",
		Example: "  meshsim bundle pull\n  meshsim bundle pull --mirror registry.example:5000\n  meshsim bundle pull --image linkerd/proxy=my.registry/linkerd/proxy:patched",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.cache()
			if err != nil {
				return err
			}
			overrides, err := given.read(bundle.Overrides{})
			if err != nil {
				return err
			}
			if source, err = checkout(source); err != nil {
				return err
			}
			b, err := bundle.Pull(c.Context(), bundle.PullOptions{
				Cache: dir, Source: source, Runner: a.runner, Log: a.log, Progress: a.progress,
				Only: only, Mirror: mirror, Overrides: overrides,
			})
			if err != nil {
				return err
			}
			return a.printBundle(b)
		},
	}
	registerSource(c, &source)
	given.register(c)
	c.Flags().StringSliceVar(&only, "only", nil, "pull only these images and charts, by name")
	c.Flags().StringVar(&mirror, "mirror", "", "registry HOST:PORT to ask for every image of the lock instead of its own")
	return c
}

// openBundle opens the bundle of this checkout, or the one made last.
func (a *app) openBundle(source string) (*bundle.Bundle, error) {
	dir, err := a.cache()
	if err != nil {
		return nil, err
	}
	if source, err = sourceDir(source); err != nil {
		return nil, err
	}
	return bundle.Open(dir, source)
}

func (a *app) newBundleList() *cobra.Command {
	var source string
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the images and charts with versions and digests",
		Example: "  meshsim bundle list\n  meshsim bundle list --json",
		Args:    args(noArgs),
		RunE: func(*cobra.Command, []string) error {
			b, err := a.openBundle(source)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(map[string]any{"hash": b.Hash, "images": b.Images(), "baked": b.Baked(), "charts": b.Charts()})
			}
			return a.printBundle(b)
		},
	}
	registerSource(c, &source)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) printBundle(b *bundle.Bundle) error {
	w := tabwriter.NewWriter(a.streams.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tVERSION\tORIGIN\tDIGEST")
	for _, i := range b.Images() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, i.Version, origin(i.Origin, i.Source), short(i.Digest))
	}
	for _, i := range b.Baked() {
		fmt.Fprintf(w, "%s (in node)\t%s\t%s\t%s\n", i.Name, i.Version, i.Origin, short(i.Digest))
	}
	fmt.Fprintln(w, "\nCHART\tVERSION\tORIGIN\tDIGEST")
	for _, c := range b.Charts() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, c.Version, origin(c.Origin, c.Source), short(c.Digest))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.streams.Out, "\nbundle %s in %s\n", short(b.Hash), b.Dir)
	return err
}

// origin says where a part comes from, and what was given in the lock's place.
func origin(how, source string) string {
	if source == "" {
		return how
	}
	return how + ", given: " + source
}

// short cuts a digest so that a table fits a terminal.
func short(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(12, len(digest))]
}

func (a *app) newBundleVerify() *cobra.Command {
	var source string
	c := &cobra.Command{
		Use:     "verify",
		Short:   "Check every file of the bundle against its digest",
		Example: "  meshsim bundle verify",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := a.openBundle(source)
			if err != nil {
				return err
			}
			if err := b.Verify(c.Context()); err != nil {
				return fault.NewEnvironment(err, "remove "+b.Dir+" and build, pull or load it again")
			}
			_, err = fmt.Fprintf(a.streams.Out, "bundle %s: %d images and %d charts are what the lock says\n", short(b.Hash), len(b.Images()), len(b.Charts()))
			return err
		},
	}
	registerSource(c, &source)
	return c
}

func (a *app) newBundleSave() *cobra.Command {
	var source string
	c := &cobra.Command{
		Use:     "save FILE|-",
		Short:   "Write the bundle into one tar file",
		Example: "  meshsim bundle save bundle.tar\n  meshsim bundle save - | ssh there meshsim bundle load -",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) (err error) {
			b, err := a.openBundle(source)
			if err != nil {
				return err
			}
			if names[0] == "-" {
				return b.Save(c.Context(), a.streams.Out)
			}
			partial := names[0] + ".partial"
			f, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
			if err != nil {
				return fault.NewInvalid(err, "name a file that can be written")
			}
			// Nothing half-written is left under either name.
			defer os.Remove(partial)
			if err := b.Save(c.Context(), f); err != nil {
				f.Close()
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			return os.Rename(partial, names[0])
		},
	}
	registerSource(c, &source)
	return c
}

func (a *app) newBundleLoad() *cobra.Command {
	return &cobra.Command{
		Use:     "load FILE|-",
		Short:   "Read a bundle that save wrote",
		Example: "  meshsim bundle load bundle.tar",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			dir, err := a.cache()
			if err != nil {
				return err
			}
			in := a.streams.In
			if names[0] != "-" {
				f, err := os.Open(names[0])
				if err != nil {
					return fault.NewInvalid(err, "name a file that `meshsim bundle save` wrote")
				}
				defer f.Close()
				in = f
			}
			b, err := bundle.Load(c.Context(), dir, in)
			if err != nil {
				return err
			}
			return a.printBundle(b)
		},
	}
}

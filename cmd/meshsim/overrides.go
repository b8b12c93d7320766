package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/scenarios"
)

// overrideFlags put other images and charts in the place of the bundle's; up,
// run, bundle build and bundle pull share them.
type overrideFlags struct {
	images, charts []string // NAME=WHERE
	file           string
}

func (f *overrideFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.images, "image", nil, "another image, NAME=REFERENCE, or NAME=./FILE.tar or ./FOLDER of an OCI layout; again for more")
	c.Flags().StringArrayVar(&f.charts, "chart", nil, "another chart, NAME=./FOLDER, ./FILE.tgz, oci://REFERENCE or https://REPOSITORY; again for more")
	c.Flags().StringVar(&f.file, "overrides", "", "YAML file of other images and charts; flags win over it")
}

// read gathers the overrides of flags, file and scenario; the first has the
// last word. Everything that can be wrong with them is told here, before
// anything is raised.
func (f *overrideFlags) read(scenario bundle.Overrides) (bundle.Overrides, error) {
	var flags bundle.Overrides
	for _, kind := range []struct {
		flag  string
		given []string
		add   func(name, dir string, from bundle.Override) error
	}{{"--image", f.images, flags.AddImage}, {"--chart", f.charts, flags.AddChart}} {
		for _, pair := range kind.given {
			by := kind.flag + " " + pair
			name, from, ok := strings.Cut(pair, "=")
			if !ok || name == "" || from == "" {
				return bundle.Overrides{}, usagef("%s: want NAME=WHERE\n  mend: such as --image linkerd/proxy=registry.example/proxy:patched", by)
			}
			if err := kind.add(name, ".", bundle.Override{From: from, By: by}); err != nil {
				return bundle.Overrides{}, &usageError{fmt.Errorf("%s: %w", by, err)}
			}
		}
	}
	all := flags.Over(scenario)
	if f.file != "" {
		file, err := scenarios.LoadOverrides(f.file)
		if err != nil {
			return bundle.Overrides{}, err
		}
		all = flags.Over(file.Over(scenario))
	}
	return all, all.Check()
}

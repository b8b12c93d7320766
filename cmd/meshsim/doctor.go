package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/doctor"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/topology"
)

func (a *app) newDoctor() *cobra.Command {
	var name, topologyName string
	var fix, asJSON bool
	var registries []string
	var httpPort, grpcPort int
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check every precondition of a rehearsal, and mend what can be mended",
		Long: `Looks at the engine, privileged containers, cgroups, limits, memory, disk, kernel
features, what building a bundle takes, and the registries and ports that are
named. Each finding is ok, warning or missing, with its mend. The exit code is 4
when something is missing.`,
		Example: "  meshsim doctor\n  meshsim doctor --fix\n  meshsim doctor --topology ci --json\n  meshsim doctor --registries quay.io,docker.io\n  meshsim doctor --http-port 8080 --grpc-port 9090",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := topology.Load(topologyName)
			if err != nil {
				return err
			}
			if err := (kind.UpOptions{Name: name, Topology: t, HTTPPort: httpPort, GRPCPort: grpcPort}).Check(); err != nil {
				return err
			}
			e, err := a.engineOptions()
			if err != nil {
				return err
			}
			o := doctor.Options{
				Cache: e.Cache, Runner: a.runner, Topology: t, Self: e.Self, Cluster: name,
				Ports: []int{httpPort, grpcPort}, Registries: registries, Log: a.log, Progress: a.progress,
			}
			findings := doctor.Check(c.Context(), o)
			if fix {
				if err := doctor.Fix(c.Context(), findings); err != nil {
					return fault.NewEnvironment(err, "")
				}
				findings = doctor.Check(c.Context(), o)
			}
			if err := a.printFindings(findings, asJSON); err != nil {
				return err
			}
			if doctor.Worst(findings) == doctor.Missing {
				return fault.NewEnvironment(fmt.Errorf("a precondition is missing"), "`meshsim doctor --fix` mends what it can")
			}
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "meshsim", "name of the cluster; its own ports count as free")
	registerPorts(c, &httpPort, &grpcPort)
	c.Flags().StringVarP(&topologyName, "topology", "t", "eks-1.24", "the topology to be raised")
	c.Flags().BoolVar(&fix, "fix", false, "mend what can be mended, then check again")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringSliceVar(&registries, "registries", nil, "registry hosts to call once each")
	return c
}

func (a *app) printFindings(findings []doctor.Finding, asJSON bool) error {
	if asJSON {
		return a.printJSON(findings)
	}
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	for _, f := range findings {
		column := len("missing") + 2 + width + 2
		fmt.Fprintf(a.streams.Out, "%-7s  %-*s  %s\n", f.State, width, f.Name, hang(f.Detail, column))
		if f.State != doctor.OK && f.Mend != "" {
			fmt.Fprintf(a.streams.Out, "%s%s\n", strings.Repeat(" ", column), hang("mend: "+f.Mend, column))
		}
	}
	return nil
}

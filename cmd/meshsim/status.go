package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/kind"
)

func (a *app) newStatus() *cobra.Command {
	var name string
	var asJSON, kubeconfig bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show how a cluster is",
		Example: "  meshsim status\n  meshsim status --json\n  kubectl --kubeconfig $(meshsim status --kubeconfig) get pods -A",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := a.engineOptions()
			if err != nil {
				return err
			}
			e, err := findEngine(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON && kubeconfig {
				return usagef("--json and --kubeconfig: one at a time")
			}
			s, err := kind.GetStatus(c.Context(), kind.StatusOptions{Name: name, Engine: e, Cache: o.Cache, Runner: a.runner})
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return a.printJSON(s)
			case s.Cluster == nil && kubeconfig: // whoever reads only the path must not take a sentence for it
				_, err := kind.Open(o.Cache, name)
				return err
			case s.Cluster == nil:
				_, err := fmt.Fprintf(a.streams.Out, "there is no cluster %s; `meshsim up` raises one\n", name)
				return err
			case kubeconfig:
				_, err := fmt.Fprintln(a.streams.Out, s.Cluster.Kubeconfig)
				return err
			}
			return a.printStatus(s)
		},
	}
	c.Flags().StringVar(&name, "name", "meshsim", "name of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&kubeconfig, "kubeconfig", false, "print only the path of its kubeconfig")
	return c
}

func (a *app) printStatus(s *kind.Status) error {
	if err := a.printCluster(s.Cluster); err != nil {
		return err
	}
	if s.APIError != "" {
		fmt.Fprintf(a.streams.Out, "  the API does not answer: %s\n", s.APIError)
	}
	w := tabwriter.NewWriter(a.streams.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tZONE\tGROUP\tVERSION\tREADY")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\n", n.Name, n.Zone, n.NodeGroup, n.Version, n.Ready)
	}
	fmt.Fprintln(w, "\nCONTAINER\tROLE\tSTATE\tPORTS")
	for _, c := range s.Containers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, c.Role, c.State, c.Ports)
	}
	return w.Flush()
}

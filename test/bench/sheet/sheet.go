// Package sheet is what all benchmarks' reports have: where it was measured, the
// goals and whether they were met, the file for machines, and how memory and
// profiles of their processes are taken.
package sheet

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Host is where it was measured.
type Host struct {
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// ThisHost is this machine.
func ThisHost() Host {
	h := Host{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return h
}

// Goal is one of those that the measured thing was built to.
type Goal struct {
	Goal     string `json:"goal"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

// Goals are all of a benchmark's.
type Goals []Goal

// Add notes a goal, whether it is met, and what was measured.
func (all *Goals) Add(met bool, goal, format string, args ...any) {
	*all = append(*all, Goal{Goal: goal, Measured: fmt.Sprintf(format, args...), Met: met})
}

// Write writes a line for each goal.
func (all Goals) Write(out io.Writer) {
	for _, g := range all {
		verdict := "missed"
		if g.Met {
			verdict = "met"
		}
		fmt.Fprintf(out, "%-7s %s: %s\n", verdict, g.Goal, g.Measured)
	}
}

// WriteJSON writes a report to a file.
func WriteJSON(file string, report any) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// MiB are bytes as a figure for people.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// Exit codes.
const (
	CodeFailed = 1
	CodeUsage  = 2
)

// UsageError is a wrong use of the flags, which has been told already.
type UsageError struct{ error }

// Usage makes one.
func Usage(err error) error { return UsageError{err} }

// Code is the exit code of a benchmark that ended with an error or without; what
// has not been told yet is written to stderr.
func Code(name string, err error, stderr io.Writer) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, new(UsageError)):
		return CodeUsage
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return CodeFailed
}

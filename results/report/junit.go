package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"meshsim.dev/meshsim/results"
)

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Stamp    string      `xml:"timestamp,attr"`
	About    []junitFact `xml:"properties>property"`
	Cases    []junitCase `xml:"testcase"`
}

// junitFact is one thing about the run as a whole.
type junitFact struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes a test case for each budget and phase, and one for the run as a
// whole. A broken budget is a failure and an inconclusive one an error, so that
// neither looks like a pass.
func JUnit(w io.Writer, d Data) error {
	suite := junitSuite{
		Name: d.Run.Scenario, Time: fmt.Sprintf("%.0f", d.duration().Seconds()), Stamp: d.Run.StartedAt.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, f := range []junitFact{
		{"run", d.Run.ID}, {"mesh", d.Verdict.Mesh}, {"seed", fmt.Sprint(d.Run.Seed)}, {"topology", d.Run.Topology},
		{"stand-ins", strings.Join(d.Run.StandIns, "; ")}, {"requests", fmt.Sprint(d.Verdict.Requests.Total)}, {"failed", fmt.Sprint(d.Verdict.Requests.Failed)},
	} {
		if f.Value != "" {
			suite.About = append(suite.About, f)
		}
	}
	for _, b := range d.Verdict.Budgets {
		name := b.Text
		if b.Phase != "" {
			name += " [" + b.Phase + "]"
		}
		suite.add(d.Run.Scenario+".budgets", name, b.Verdict, b.Measured, b.Evidence)
	}
	suite.add(d.Run.Scenario, "verdict", d.Verdict.Verdict, d.headline(), d.causeLines())
	raw, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return fmt.Errorf("encode JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, raw)
	return err
}

// causeLines are the causes of failures, a line each.
func (d Data) causeLines() []string {
	var all []string
	for _, c := range d.Verdict.Causes {
		line := fmt.Sprintf("%s × %s", count(c.Count), c.Cause)
		if c.Mend != "" {
			line += " (mend: " + c.Mend + ")"
		}
		all = append(all, line)
	}
	return all
}

func (s *junitSuite) add(class, name string, j results.Judgement, measured string, evidence []string) {
	c := junitCase{Class: class, Name: name}
	message := &junitMessage{Type: string(j), Message: measured, Text: strings.Join(evidence, "\n")}
	switch j {
	case results.Pass:
		c.Out = measured
	case results.Fail:
		c.Failure = message
		s.Failures++
	default:
		c.Error = message
		s.Errors++
	}
	s.Tests++
	s.Cases = append(s.Cases, c)
}

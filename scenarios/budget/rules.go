package budget

import (
	"fmt"
	"slices"
	"strings"
)

// rule is one line of the grammar. A new kind of budget is a new rule.
type rule struct {
	subject Subject
	on      On
	// parse reads what follows the subject's words, up to its scope.
	parse  func(*parser, *Budget)
	filter []Field // what it can be narrowed to by "of"
}

var (
	ofRequests = fields
	ofCalls    = []Field{Route, Service, Version, Caller, Node}
	ofPods     = []Field{Service}
)

var rules = []rule{
	{FailedRequests, OnRequests, counted(true), ofRequests},
	{RejectedRequests, OnRequests, counted(false), ofRequests},
	{LateRequests, OnRequests, counted(false), ofRequests},
	{Requests, OnRequests, enough, ofRequests},
	{Availability, OnRequests, available, ofRequests},
	{EndToEnd, OnRequests, quantiled, ofRequests},
	{FailedCalls, OnRequests, counted(true), ofCalls},
	{Calls, OnRequests, enough, ofCalls},
	{CallLatency, OnRequests, quantiled, ofCalls},
	{Recovery, OnRun, recovered, ofRequests},
	{AddedLatency, OnRun, added, nil},
	{InjectedPods, OnRun, covered, nil},
	{MTLSCalls, OnEnds, covered, nil},
	{PlaintextAccepted, OnRun, numbered, nil},
	{EncryptedFlows, OnWindow, covered, ofPods},
	{PlaintextFlows, OnWindow, numbered, ofPods},
	{Canaries, OnWindow, numbered, nil},
	{ProxyMemory, OnEnds, func(p *parser, b *Budget) { b.Op, b.Count = p.op(Less, AtMost), p.bytes() }, ofPods},
	{ProxyCPU, OnEnds, func(p *parser, b *Budget) { b.Op, b.Cores = p.op(Less, AtMost), p.cores() }, ofPods},
	{IssuerCertificate, OnRun, issued, nil},
	{CertificatesLast, OnRun, func(p *parser, b *Budget) { b.Op, b.Duration = AtMost, p.duration() }, nil},
	{CertificatesExpired, OnRun, numbered, nil},
	{CertificatesChained, OnRun, covered, nil},
	{CertificatesNamed, OnRun, covered, nil},
	{CertificatesRenewed, OnRun, covered, nil},
	{CertificatesKeyed, OnRun, func(p *parser, b *Budget) { b.Key = p.oneOf(Keys()...); covered(p, b) }, nil},
	{Admitted, OnRun, numbered, nil},
	{Refused, OnRun, numbered, nil},
	{DenialsCounted, OnRun, covered, nil},
	{DenialsAlerted, OnRun, func(p *parser, b *Budget) { b.Op, b.Duration = AtMost, p.duration() }, nil},
	{VaultUnsealed, OnRun, unsealed, nil},
	{VaultSealed, OnWindow, func(p *parser, b *Budget) { b.Op, b.Duration = p.op(Less, AtMost), p.duration() }, nil},
	{VaultRotated, OnRun, func(p *parser, b *Budget) { b.Op, b.Duration = AtMost, p.duration() }, nil},
	{VaultSecretsAge, OnRun, old, nil},
	{VaultCertsAge, OnRun, old, nil},
	{VaultDenied, OnWindow, numbered, nil},
	{HooksFailed, OnWindow, numbered, nil},
	{HooksFailedOpen, OnWindow, numbered, nil},
	{HooksRejected, OnWindow, numbered, nil},
	{OrdersLost, OnRun, numbered, nil},
	{ItemsOversold, OnRun, numbered, nil},
	{PaymentsUnmatched, OnRun, numbered, nil},
	{Restarts, OnWindow, numbered, ofPods},
	{OOMKills, OnWindow, numbered, ofPods},
	{PromQL, OnEnds, asked, nil},
	{AutoscalersMeasured, OnEnds, covered, nil},
	{AutoscalerWarnings, OnWindow, numbered, ofPods},
	{AutoscaledReplicas, OnEnds, func(p *parser, b *Budget) { b.Op, b.Count = p.op(Equal, AtMost, AtLeast), p.count() }, ofPods},
	{ReplicaLag, OnEnds, lagging, nil},
	{WritesReplicated, OnEnds, func(p *parser, b *Budget) { b.Op, b.Duration = AtMost, p.duration() }, nil},
	{ReplicaBack, OnRun, func(p *parser, b *Budget) { b.Op, b.Duration = AtMost, p.duration() }, nil},
}

func ruleOf(s Subject) rule {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.subject == s })
	if i < 0 {
		return rule{subject: s}
	}
	return rules[i]
}

// counted reads a count or a share, and what a budget of failures may add: to
// which share their absence is to be shown.
func counted(shown bool) func(*parser, *Budget) {
	return func(p *parser, b *Budget) {
		b.Op = p.op(Equal, AtMost)
		t := p.next()
		switch {
		case !strings.HasSuffix(t.text, "%"):
			b.Count = p.count()
		case b.Op == Equal:
			p.fail(t.column, fmt.Sprintf("no number of requests shows a share of exactly %s; write <= %s, or a count", t.text, t.text))
		default:
			b.Share, b.Ratio = true, p.ratio()
			if b.Ratio <= 0 {
				p.fail(t.column, "no number of requests shows a share of 0 %; write = 0")
			}
		}
		if !shown || b.Share || p.next().text != "shown" {
			return
		}
		p.take()
		p.word("to")
		t = p.next()
		b.Shown = p.ratio()
		if b.Shown >= 1 || b.Shown <= 0 {
			p.fail(t.column, "what is shown lies between 0 % and 100 %")
		}
	}
}

func numbered(p *parser, b *Budget) { b.Op, b.Count = p.op(Equal, AtMost), p.count() }

func enough(p *parser, b *Budget) { b.Op, b.Count = p.op(AtLeast), p.count() }

func covered(p *parser, b *Budget) { b.Op, b.Ratio = p.op(Equal, AtLeast), p.ratio() }

func quantiled(p *parser, b *Budget) { b.Quantile = p.quantile(); p.limit(b) }

func available(p *parser, b *Budget) {
	b.Op = p.op(AtLeast)
	column := p.next().column
	b.Ratio = p.ratio()
	if b.Ratio >= 1 {
		p.fail(column, "no number of requests shows 100 %; write failed requests = 0")
	}
	if b.Ratio <= 0 {
		p.fail(column, "an availability of 0 % says nothing")
	}
}

func recovered(p *parser, b *Budget) {
	b.Op, b.Duration = AtMost, p.duration()
	p.word("after")
	end := true
	if word := p.next().text; word == "begin" || word == "end" {
		p.take()
		p.word("of")
		end = word == "end"
		b.Mark = &Edge{Mark: p.mark(StepMark), End: end}
		return
	}
	b.Mark = &Edge{Mark: p.mark(StepMark, EventMark), End: end}
}

func added(p *parser, b *Budget) {
	quantiled(p, b)
	p.word("per")
	b.Per = p.oneOf("hop", "request")
}

func issued(p *parser, b *Budget) {
	b.Op, b.Duration = Equal, p.duration()
	p.word(",")
	p.word("renewed")
	b.Lead = p.duration()
	p.word("early")
	if p.next().text == "," {
		p.take()
		p.word("keyed")
		b.Key = p.oneOf(Keys()...)
	}
}

func unsealed(p *parser, b *Budget) {
	if p.next().text == "within" {
		p.take()
		b.Op, b.Duration = AtMost, p.duration()
	}
}

// lagging reads a lag: of log, in bytes, or in time.
func lagging(p *parser, b *Budget) {
	b.Op = p.op(Less, AtMost)
	if strings.HasSuffix(p.next().text, "B") {
		b.Count = p.bytes()
		return
	}
	b.Duration = p.duration()
}

func old(p *parser, b *Budget) {
	b.Op, b.Duration = AtMost, p.duration()
	p.word("old")
}

func asked(p *parser, b *Budget) {
	t := p.next()
	b.Query = p.quoted("a query in quotes")
	if p.err == nil {
		if why := unbalanced(b.Query); why != "" {
			p.fail(t.column, "the query "+why)
		}
	}
	b.Op, b.Value = p.op(Equal, Less, AtMost, More, AtLeast), p.number()
}

// unbalanced says what is wrong with the brackets of a query; Prometheus itself
// says the rest.
func unbalanced(query string) string {
	if strings.TrimSpace(query) == "" {
		return "is empty"
	}
	var open []rune
	var quote rune
	for _, r := range query {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'' || r == '`':
			quote = r
		case strings.ContainsRune("([{", r):
			open = append(open, r)
		case strings.ContainsRune(")]}", r):
			want := map[rune]rune{')': '(', ']': '[', '}': '{'}[r]
			if len(open) == 0 || open[len(open)-1] != want {
				return fmt.Sprintf("closes a %c that is not open", want)
			}
			open = open[:len(open)-1]
		}
	}
	if quote != 0 {
		return fmt.Sprintf("leaves a %c open", quote)
	}
	if len(open) > 0 {
		return fmt.Sprintf("leaves a %c open", open[len(open)-1])
	}
	return ""
}

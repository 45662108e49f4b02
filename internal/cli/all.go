package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// askSlack is what a question about one of many may take beyond its own budget,
// before it counts as unanswered.
const askSlack = 50 * time.Millisecond

// GatewaysDocument is what `creel gateway status --all --json` prints.
type GatewaysDocument struct {
	Verdict  health.Summary    `json:"verdict"`
	Message  string            `json:"message"`
	Problem  *ProblemDocument  `json:"problem"`
	Gateways []GatewayDocument `json:"gateways"`
	Elapsed  health.Micros     `json:"elapsed_us"`
}

// StatusesDocument is what `creel status --all --json` prints.
type StatusesDocument struct {
	Verdict  health.Summary   `json:"verdict"`
	Message  string           `json:"message"`
	Problem  *ProblemDocument `json:"problem"`
	Gateways []StatusDocument `json:"gateways"`
	Elapsed  health.Micros    `json:"elapsed_us"`
}

// gatewayNames lists every gateway that has a desired state or state on disk.
// problem says that there may be more.
func (a *app) gatewayNames() (names []string, problem *ProblemDocument, err error) {
	if err := budget.Check(); err != nil {
		return nil, nil, usageCause("budget-invalid", err)
	}
	roots, err := a.roots()
	if err != nil {
		return nil, nil, err
	}
	all, err := roots.GatewayNames()
	if err != nil {
		problem = problemDocument(advisory.New("state-unreadable", "not every gateway may be listed", err))
	}
	for _, name := range all {
		if sandbox.CheckName(name) != nil { // what no gateway is called is none
			continue
		}
		// Nor is what a command left that found nothing.
		if there, err := roots.Gateway(name).SetUp(); there || err != nil {
			names = append(names, name)
		}
	}
	return names, problem, nil
}

// forEach asks about many at the same time and returns the answers in the order of
// the names, within the limit whatever becomes of one of them: who has not answered
// by then is given up, and late says what is known of it.
func forEach[T any](ctx context.Context, names []string, limit time.Duration, ask func(context.Context, string) T, late func(string) T) []T {
	type answer struct {
		i int
		T T
	}
	answers := make(chan answer, len(names)) // nobody waits for a reader that has gone
	for i, name := range names {
		go func() { answers <- answer{i, ask(ctx, name)} }()
	}
	out, came := make([]T, len(names)), make([]bool, len(names))
	over := time.NewTimer(limit)
	defer over.Stop()
	for range names {
		select {
		case a := <-answers:
			out[a.i], came[a.i] = a.T, true
			continue
		case <-over.C:
		case <-ctx.Done():
		}
		break
	}
	for i, name := range names {
		if !came[i] {
			out[i] = late(name)
		}
	}
	return out
}

// gatewayStatusAll observes every gateway.
func (a *app) gatewayStatusAll(ctx context.Context, asJSON bool) error {
	began := time.Now()
	names, problem, err := a.gatewayNames()
	if err != nil {
		return err
	}
	limit := budget.Of(budget.Probe) + askSlack
	doc := GatewaysDocument{Problem: problem, Gateways: forEach(ctx, names, limit, a.observeGateway, func(name string) GatewayDocument {
		return a.unansweredGateway(name, "unknown", advisory.New("gateway-unknown", fmt.Sprintf("gateway %s could not be asked within %s", name, limit), nil))
	})}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	doc.Verdict, doc.Message = summarizeAll(doc.Gateways, problem, func(g GatewayDocument) (string, health.Summary, string) { return g.Gateway, g.Verdict, g.Message })
	doc.Elapsed = health.Micros(time.Since(began))
	if asJSON {
		err = a.Streams.JSON(doc)
	} else {
		a.renderGateways(doc)
	}
	return errors.Join(err, asError(ofSummary(doc.Verdict)))
}

// observeGateway is one gateway's document; what keeps it from being asked is in it.
func (a *app) observeGateway(ctx context.Context, name string) GatewayDocument {
	roots, err := a.roots()
	if err != nil {
		return a.unansweredGateway(name, "unknown", err)
	}
	r, err := a.Runtime(name)
	if err != nil {
		return a.unansweredGateway(name, "unknown", err)
	}
	return a.observe(ctx, roots.Gateway(name), r)
}

// unansweredGateway is a gateway of which nothing can be told, and why.
func (a *app) unansweredGateway(name, runtimeName string, why error) GatewayDocument {
	doc := gatewayDocument(name, runtimeName, gateway.Observation{Reason: "gateway-unknown", Message: credential.Redact(why.Error())})
	if p, ok := advisory.Of(why); ok {
		doc.Reason, doc.Hints = p.ID, orEmpty(p.Commands())
	}
	return a.gatewayAbout(doc)
}

// summarizeAll is the verdict over many and one sentence about it, which names the
// first that is as bad as that.
func summarizeAll[T any](all []T, problem *ProblemDocument, of func(T) (name string, verdict health.Summary, message string)) (health.Summary, string) {
	var results []health.Result
	count := map[health.Summary]int{}
	for _, one := range all {
		_, v, _ := of(one)
		count[v]++
		r := health.Result{}
		switch v {
		case health.SummaryFailed:
			r.Verdict = health.Failed
		case health.SummaryOK:
			r.Verdict = health.OK
		case health.SummaryDegraded:
			r.Verdict, r.Caveats = health.OK, []health.Caveat{{}}
		}
		results = append(results, r)
	}
	if problem != nil {
		results = append(results, health.Result{})
	}
	verdict := health.Summarize(results)
	if len(all) == 0 {
		if problem != nil {
			return verdict, problem.Message
		}
		return health.SummaryFailed, "nothing has been set up: there is no gateway here"
	}
	message := fmt.Sprintf("%d gateways", len(all))
	if len(all) == 1 {
		message = "1 gateway"
	}
	for _, v := range []health.Summary{health.SummaryFailed, health.SummaryUnknown, health.SummaryDegraded} {
		if count[v] > 0 {
			message += fmt.Sprintf(", %d %s", count[v], v)
		}
	}
	for _, one := range all {
		if name, v, why := of(one); v == verdict && v != health.SummaryOK {
			message += "; " + name + ": " + strings.TrimPrefix(firstLine(why), "gateway "+name+" ")
			break
		}
	}
	return verdict, message
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (a *app) renderGateways(doc GatewaysDocument) {
	t := a.Streams.OutTerminal
	a.Streams.Print("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), credential.Redact(doc.Message))
	if len(doc.Gateways) > 0 {
		table := ui.Table{Header: []string{"GATEWAY", "RUNTIME", "VERDICT", "ENDPOINT", "REASON"}}
		for _, g := range doc.Gateways {
			table.Row(g.Gateway, g.Runtime, t.Glyph(ui.MarkOf(string(g.Verdict)))+" "+string(g.Verdict), dash(g.Endpoint), dash(whyNotOK(g)))
		}
		a.writeTable(&table)
	}
	var next []string
	for _, g := range doc.Gateways {
		if g.Verdict != health.SummaryOK {
			next = append(next, a.firstNext(g.Gateway, hintsOf(whyNotOK(g), g.Hints), "creel gateway status"))
		}
	}
	a.renderRest(doc.Problem, len(doc.Gateways), next)
}

// firstNext is what comes first for one of many; a closer look where nothing is known.
func (a *app) firstNext(gateway string, commands []string, look string) string {
	return a.about(gateway, append(slices.Clone(commands), look))[0]
}

// whyNotOK is the advisory that explains a gateway's verdict.
func whyNotOK(g GatewayDocument) string {
	switch {
	case g.Reason != "":
		return g.Reason
	case len(g.Caveats) > 0:
		return g.Caveats[0].Advisory
	case len(g.Drift) > 0:
		return "gateway-drifted"
	}
	return ""
}

// renderRest says what else there is to say of many gateways.
func (a *app) renderRest(problem *ProblemDocument, gateways int, next []string) {
	switch {
	case problem != nil:
		a.sayProblem(problem)
	case gateways == 0:
		a.Streams.Next("creel onboard")
	default:
		a.Streams.Next(next...)
	}
}

// statusAll looks at every layer of every gateway.
func (a *app) statusAll(ctx context.Context, asJSON bool) error {
	began := time.Now()
	names, problem, err := a.gatewayNames()
	if err != nil {
		return err
	}
	roots, err := a.roots()
	if err != nil {
		return err
	}
	limit := budget.Of(budget.Operation) + askSlack
	doc := StatusesDocument{Problem: problem, Gateways: forEach(ctx, names, limit,
		func(ctx context.Context, name string) StatusDocument {
			d, err := a.inspectGateway(ctx, roots.Gateway(name), "", false)
			if err != nil {
				return a.unansweredStatus(name, err)
			}
			return d
		},
		func(name string) StatusDocument {
			return a.unansweredStatus(name, advisory.New("gateway-unknown", fmt.Sprintf("gateway %s could not be looked at within %s", name, limit), nil))
		})}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	doc.Verdict, doc.Message = summarizeAll(doc.Gateways, problem, func(d StatusDocument) (string, health.Summary, string) {
		if where := faulty(d); where != "" {
			return d.Gateway, d.Verdict, string(d.Verdict) + " at " + where
		}
		return d.Gateway, d.Verdict, d.Message
	})
	doc.Elapsed = health.Micros(time.Since(began))
	if asJSON {
		err = a.Streams.JSON(doc)
	} else {
		t := a.Streams.OutTerminal
		a.Streams.Print("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), credential.Redact(doc.Message))
		if len(doc.Gateways) > 0 {
			table := ui.Table{Header: []string{"GATEWAY", "VERDICT", "MESSAGE"}}
			for _, d := range doc.Gateways {
				table.Row(d.Gateway, t.Glyph(ui.MarkOf(string(d.Verdict)))+" "+string(d.Verdict), credential.Redact(firstLine(d.Message)))
			}
			a.writeTable(&table)
		}
		var next []string
		for _, d := range doc.Gateways {
			if d.Verdict != health.SummaryOK {
				next = append(next, a.firstNext(d.Gateway, d.Hints, "creel status"))
			}
		}
		a.renderRest(problem, len(doc.Gateways), next)
	}
	return errors.Join(err, asError(ofSummary(doc.Verdict)))
}

func (a *app) unansweredStatus(name string, why error) StatusDocument {
	return a.statusAbout(StatusDocument{Verdict: health.SummaryUnknown, Gateway: name, Message: credential.Redact(firstLine(why.Error())), Problem: problemDocument(why),
		Layers: []health.Result{}, Hints: problemDocument(why).Commands, At: time.Now().UTC()})
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// ListDocument is what `creel list --json` prints.
type ListDocument struct {
	Gateway string `json:"gateway"`
	// Answered says whether the gateway could be asked; without it only what is
	// recorded is listed, and phases are unknown.
	Answered  bool             `json:"answered"`
	Problem   *ProblemDocument `json:"problem"`
	Sandboxes []ListEntry      `json:"sandboxes"`
}

// ListEntry is one sandbox in a ListDocument.
type ListEntry struct {
	Name        string     `json:"name"`
	ID          string     `json:"id"`
	Agent       string     `json:"agent"`
	Phase       string     `json:"phase"`
	Wanted      string     `json:"wanted"`
	Recorded    bool       `json:"recorded"`
	Message     string     `json:"message"`
	Confinement string     `json:"confinement"`
	Dashboard   string     `json:"dashboard"`
	Model       string     `json:"model"`
	PID         int        `json:"pid"` // of the main process, as the host numbers it; 0 when none runs
	CreatedAt   *time.Time `json:"created_at"`
}

// phaseAbsent is what list calls a wanted sandbox that a healthy gateway does not
// have.
const phaseAbsent = "absent"

func (a *app) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List sandboxes",
		Long: `List what is recorded and what the gateway has, broken ones beside healthy ones.
Nothing is changed and nothing is probed; "creel status" judges.`,
		Example: "  creel list\n  creel list --json",
		GroupID: "look",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := a.list(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				a.renderList(doc)
			}
			if doc.unknown() {
				return errors.Join(err, exitCode(ExitUnknown))
			}
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// list makes one call to the gateway, however many sandboxes there are.
func (a *app) list(ctx context.Context) (ListDocument, error) {
	g, err := a.paths()
	if err != nil {
		return ListDocument{}, err
	}
	wanted, _, problem := recorded(g)
	var have []gateway.Inspection
	if err := a.withGateway(ctx, func(c gateway.Client) error {
		ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway for its sandboxes")
		defer cancel()
		have, err = c.Inspect(ctx, false)
		return err
	}); err != nil {
		if ctx.Err() != nil {
			return ListDocument{}, err
		}
		if problem == nil || problem.Error() != err.Error() { // what keeps the record from being read may do both
			problem = errors.Join(problem, err)
		}
		return a.listDocument(g.Name, wanted, nil, false, problem), nil
	}
	return a.listDocument(g.Name, wanted, have, true, problem), nil
}

// listDocument merges what is recorded with what the gateway has.
func (a *app) listDocument(name string, wanted desired.Document, have []gateway.Inspection, answered bool, problem error) ListDocument {
	doc := ListDocument{Gateway: name, Answered: answered, Problem: a.problemAbout(name, problemDocument(problem)), Sandboxes: []ListEntry{}}
	found := make(map[string]gateway.Inspection, len(have))
	for _, s := range have {
		found[s.Name] = s
	}
	known := make(map[string]bool, len(wanted.Sandboxes))
	for _, w := range wanted.Sandboxes {
		known[w.Name] = true
		if s, ok := found[w.Name]; ok {
			doc.Sandboxes = append(doc.Sandboxes, listEntry(s, true))
			continue
		}
		e := ListEntry{Name: w.Name, Agent: w.Agent, Phase: string(sandbox.UnknownPhase), Wanted: string(w.Wanted),
			Recorded: true, Message: "the gateway could not be asked"}
		if answered {
			e.Phase, e.Message = phaseAbsent, "the gateway does not have it"
		}
		doc.Sandboxes = append(doc.Sandboxes, e)
	}
	for _, s := range have {
		if !known[s.Name] {
			doc.Sandboxes = append(doc.Sandboxes, listEntry(s, false))
		}
	}
	return doc
}

func listEntry(s gateway.Inspection, isRecorded bool) ListEntry {
	e := ListEntry{Name: s.Name, ID: s.ID, Agent: s.Agent, Phase: string(s.Phase), Wanted: string(s.Wanted),
		Recorded: isRecorded, Message: s.Message, Confinement: string(s.State.Confinement.Tier), Model: s.Model, PID: s.State.Main.PID}
	if s.Dashboard.Bound {
		e.Dashboard = dashboardURL(s.Dashboard)
	}
	if !s.CreatedAt.IsZero() {
		e.CreatedAt = &s.CreatedAt
	}
	return e
}

// unknown reports that there may be sandboxes that nobody could tell of.
func (d ListDocument) unknown() bool {
	return !d.Answered && (len(d.Sandboxes) > 0 || d.Problem != nil && !noGateway(d.Problem))
}

func (a *app) renderList(doc ListDocument) {
	if doc.Problem != nil {
		a.sayProblem(doc.Problem)
	}
	if len(doc.Sandboxes) == 0 {
		if doc.unknown() {
			return // the problem was said, and nothing else is known
		}
		a.Streams.Say("no sandboxes")
		if doc.Problem == nil {
			a.Streams.Next("creel onboard")
		}
		return
	}
	t := a.Streams.OutTerminal
	table := ui.Table{Header: []string{"SANDBOX", "AGENT", "PHASE", "CONFINEMENT", "DASHBOARD", "MODEL", "AGE"}}
	for _, e := range doc.Sandboxes {
		table.Row(e.Name, e.Agent, t.Glyph(phaseMark(e))+" "+e.Phase, dash(e.Confinement), dash(e.Dashboard), dash(e.Model),
			age(e.CreatedAt, time.Now()))
	}
	a.writeTable(&table)
}

func phaseMark(e ListEntry) ui.Mark {
	switch {
	case e.Phase == string(sandbox.Ready), e.Phase == string(sandbox.Stopped) && e.Wanted == string(sandbox.NotRunning):
		return ui.MarkOK
	case e.Phase == string(sandbox.Error), e.Phase == phaseAbsent, e.Phase == string(sandbox.Stopped):
		return ui.MarkFailed
	case e.Phase == string(sandbox.UnknownPhase):
		return ui.MarkUnknown
	}
	return ui.MarkInfo
}

// age is how long ago something was, in one unit.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch d := now.Sub(*t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// dashboardURL is where a bound listener is opened on this machine; it holds no
// token.
func dashboardURL(f gateway.Forward) string {
	host := f.Bind
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return fmt.Sprintf("http://%s:%d/", host, f.Port)
}

// ProblemDocument is an error inside a JSON document.
type ProblemDocument struct {
	Advisory string   `json:"advisory"`
	Title    string   `json:"title"`
	Message  string   `json:"message"`
	Commands []string `json:"commands"`
}

// problemDocument is nil for nil.
func problemDocument(err error) *ProblemDocument {
	if err == nil {
		return nil
	}
	p := &ProblemDocument{Message: credential.Redact(err.Error()), Commands: orEmpty(ui.Commands(err))}
	if found, ok := advisory.Of(err); ok {
		a, _ := advisory.Lookup(found.ID)
		p.Advisory, p.Title = found.ID, a.Title
	}
	return p
}

// sayProblem prints a problem as talk.
func (a *app) sayProblem(p *ProblemDocument) {
	verdict := a.Streams.ErrTerminal.Verdict(ui.MarkUnknown) + " "
	if noGateway(p) {
		verdict = "" // that is known
	}
	a.Streams.Say("%s%s", verdict, p.Message)
	if p.Advisory != "" {
		a.Streams.Say("%s: %s", p.Advisory, p.Title)
	}
	a.Streams.Next(p.Commands...)
}

// verdictOf is the summary word of one result.
func verdictOf(r health.Result) health.Summary { return health.Summarize([]health.Result{r}) }

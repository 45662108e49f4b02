package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/layer"
	"creel/internal/onboard"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

func (a *app) inferenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inference",
		Short: "Show or set which model answers",
		Long: `Agents ask one endpoint inside their sandbox; the gateway's route says which provider
and model answer it. The provider's key is stored encrypted and never enters a
sandbox.`,
		Example: "  creel inference get\n  creel inference set --provider openai --model NAME --credential-env OPENAI_API_KEY",
		GroupID: "gateway",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.inferenceGet(), a.inferenceSet())
	return cmd
}

// InferenceDocument is what `creel inference get --json` prints. It holds no key.
type InferenceDocument struct {
	Verdict   health.Summary `json:"verdict"`
	Provider  string         `json:"provider"`
	Model     string         `json:"model"`
	Endpoint  string         `json:"endpoint"`
	Class     string         `json:"class"`
	Message   string         `json:"message"`
	CheckedAt *time.Time     `json:"checked_at"`
	Took      health.Micros  `json:"took_us"`
	Hints     []string       `json:"hints"`
}

func (a *app) inferenceGet() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "get",
		Short:   "Show which model answers, and whether it does",
		Long:    "Show the provider and the model that answer, and ask the provider just now whether it does.",
		Example: "  creel inference get\n  creel inference get --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var doc InferenceDocument
			g, err := a.paths()
			if err != nil {
				return err
			}
			wanted, _, err := recorded(g)
			if err != nil {
				return err
			}
			err = a.withGateway(cmd.Context(), func(c gateway.Client) (err error) {
				doc, err = inferenceDocument(cmd.Context(), c, wanted.Inference)
				return err
			})
			if err != nil {
				return err
			}
			doc.Hints = a.about(g.Name, doc.Hints)
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				a.renderInference(doc)
			}
			return errors.Join(err, asError(ofSummary(doc.Verdict)))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// inferenceDocument judges the route as status does, and asks the provider just now.
func inferenceDocument(ctx context.Context, c gateway.Client, wanted desired.Inference) (InferenceDocument, error) {
	ctx, cancel := budget.Context(ctx, budget.Operation, "ask the gateway for its model route")
	defer cancel()
	route, there, err := c.Route(ctx)
	if err != nil {
		return InferenceDocument{}, fmt.Errorf("ask the gateway for its model route: %w", err)
	}
	compared := layer.WantedInference{Provider: wanted.Provider, BaseURL: wanted.EndpointURL, Model: wanted.Model}.Compare(route, there)
	if !there {
		doc := InferenceDocument{Verdict: verdictOf(compared), Provider: inference.NoProvider, Class: string(inference.ClassNone),
			Message: compared.Message, Hints: orEmpty(compared.Hints)}
		return doc, nil
	}
	check, err := c.CheckInference(ctx, 0)
	if err != nil {
		return InferenceDocument{}, fmt.Errorf("ask the model provider: %w", err)
	}
	doc := InferenceDocument{Verdict: verdictOf(health.Result{Verdict: check.Verdict}), Provider: route.Provider, Model: route.Model,
		Endpoint: credential.Redact(route.BaseURL), Class: string(check.Class), Message: credential.Redact(check.Message), Took: health.Micros(check.Took),
		Hints: []string{}}
	if !check.At.IsZero() {
		doc.CheckedAt = &check.At
	}
	if compared.Verdict != health.OK {
		doc.Verdict, doc.Message, doc.Hints = verdictOf(compared), compared.Message+"; "+doc.Message, compared.Hints
	}
	return doc, nil
}

func (a *app) renderInference(doc InferenceDocument) {
	a.Streams.Print("%s: %s", a.Streams.OutTerminal.Verdict(ui.MarkOf(string(doc.Verdict))), doc.Message)
	table := ui.Table{Indent: "  "}
	table.Row("provider", doc.Provider)
	if doc.Model != "" {
		table.Row("model", doc.Model)
	}
	if doc.Endpoint != "" {
		table.Row("endpoint", doc.Endpoint)
	}
	a.writeTable(&table)
	a.Streams.Next(doc.Hints...)
}

// routeQuestions are onboard's questions that inference set answers too.
var routeQuestions = []onboard.Key{onboard.Provider, onboard.EndpointURL, onboard.Model, onboard.CredentialEnv}

func (a *app) inferenceSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Set which provider and model answer",
		Long: `Ask the provider whether it answers with this key and model, and only then store the
key, encrypted, and let it answer. Agents use it from their next request on, without
a restart. The key is read from an environment variable or asked for; it is never a
flag. "--provider none" removes the route.`,
		Example: "  creel inference set --provider openai --model NAME --credential-env OPENAI_API_KEY\n" +
			"  creel inference set --provider custom --endpoint-url http://127.0.0.1:8000/v1 --model NAME\n" +
			"  creel inference set --provider none",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answers, err := givenAnswers(cmd.Flags())
			if err != nil {
				return err
			}
			return a.setInference(cmd, answers)
		},
	}
	for _, q := range onboard.Questions() {
		if slices.Contains(routeQuestions, q.Key) {
			cmd.Flags().String(string(q.Key), "", q.Meaning+" ("+strings.Join(q.Env, ", ")+")")
		}
	}
	return cmd
}

// setInference mends the inference layer towards the new wish, and records the
// wish when it holds: a provider that refuses leaves everything as it was.
func (a *app) setInference(cmd *cobra.Command, answers map[onboard.Key]string) (err error) {
	ctx := cmd.Context()
	l, g, err := a.lock(cmd)
	if err != nil {
		return err
	}
	defer unlock(l, &err)
	before, _, err := recorded(g)
	if err != nil {
		return err
	}
	wanted, key, err := a.settleRoute(ctx, before, answers)
	if err != nil {
		return err
	}
	stack, err := a.Layers(ctx, wanted, Scope{Only: []layer.ID{layer.Inference}, Key: func() credential.Secret { return key }})
	if err != nil {
		return err
	}
	if stack.Close != nil {
		defer func() { err = errors.Join(err, stack.Close()) }()
	}
	out, err := a.walkQuietly(ctx, g, layersOf(stack.Layers, layer.Inference))
	if err != nil {
		return err
	}
	if !before.Equal(wanted) {
		if err := wanted.Save(g.Desired()); err != nil {
			return err
		}
	}
	for _, r := range out.Results {
		a.Streams.Print("%s: %s", a.Streams.OutTerminal.Verdict(ui.MarkOf(string(verdictOf(r)))), r.Message)
	}
	return asError(ofSummary(out.Summary))
}

// settleRoute settles only what is about the route: other answers in the
// environment are not this command's business.
func (a *app) settleRoute(ctx context.Context, before desired.Document, answers map[onboard.Key]string) (desired.Document, credential.Secret, error) {
	asked := len(answers) > 0
	var others []onboard.Question
	for _, q := range onboard.Questions() {
		if !slices.Contains(routeQuestions, q.Key) {
			others = append(others, q)
			continue
		}
		asked = asked || firstSet(a.Getenv, q.Key) != ""
	}
	in := onboard.Inputs{Gateway: before.Name, Flags: answers, Recorded: &before, Getenv: a.without(others)}
	switch {
	case a.Streams.Interactive:
		in.Prompter = asker{a.prompter()}
		if !asked {
			in.Recorded = nil // so that the provider is asked for
		}
	case !asked:
		return before, credential.Secret{}, usage("usage", "nothing to set: give --provider", "creel inference set --provider openai --model NAME")
	}
	wanted := before
	var key credential.Secret
	var err error
	wanted.Inference, key, err = onboard.SettleInference(ctx, in)
	return wanted, key, err
}

// walkQuietly mends layers with progress but without headings.
func (a *app) walkQuietly(ctx context.Context, g state.Gateway, layers []layer.Layer) (out ladder.Outcome, err error) {
	journal, err := ladder.OpenJournal(g.Journal(), a.AfterEntry)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	return ladder.Walk(ctx, layers, ladder.Options{Journal: journal, Report: func(e ladder.Event) {
		if e.Type == ladder.Progressed {
			p.Report()(e.Message)
		}
	}})
}

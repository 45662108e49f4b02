package onboard

import (
	"context"
	"errors"
	"fmt"

	"creel/internal/budget"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
)

// resumed says, for each layer that an earlier run worked on, whether it is
// reused. The words are those that users of earlier tools look for.
func resumed(entries []ladder.Entry, layers []layer.Layer, found []health.Result) []string {
	if len(entries) == 0 {
		return nil
	}
	worked := map[string]bool{}
	for _, e := range entries {
		if e.Kind == ladder.KindOutcome && e.OK {
			worked[e.Subject] = true
		}
	}
	var said []string
	for i, l := range layers {
		good := found[i].Verdict == health.OK
		switch {
		case l.ID() == layer.Host && good:
			said = append(said, "[resume] Skipping preflight")
		case l.ID() == layer.Gateway && good:
			said = append(said, "[resume] Skipping gateway (running)")
		case l.ID() == layer.Gateway && worked[l.Subject()]:
			how := "is unhealthy"
			switch {
			case found[i].Reason == layer.GatewayDiffers:
				how = "is not as wanted"
			case found[i].Verdict == health.Unknown:
				how = "could not be asked"
			}
			said = append(said, "[resume] Recorded gateway "+how+"; "+found[i].Message)
		case l.ID() == layer.Sandbox && good:
			said = append(said, "[resume] Skipping sandbox")
		case l.ID() == layer.Sandbox && found[i].Absent && worked[l.Subject()]:
			said = append(said, "[resume] Recorded sandbox state is unavailable; recreating it.")
		}
	}
	return said
}

// undo removes what an interrupted run created.
func undo(ctx context.Context, o Options, run string, journal *ladder.Journal, created []string) error {
	// The interruption must not keep its own clean-up from running; the budget
	// bounds it, and a second interrupt ends the process.
	ctx, cancel := budget.Context(context.WithoutCancel(ctx), budget.Operation, "undo what the interrupted run created")
	defer cancel()
	var problems []error
	for _, name := range created {
		entry := ladder.Entry{Run: run, Kind: ladder.KindIntent, Layer: string(layer.Sandbox), Subject: "sandbox/" + name, Action: "undo-create-sandbox"}
		if err := journal.Append(entry); err != nil {
			return err
		}
		err := o.Undo(ctx, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("undo sandbox %s: %w", name, err))
			entry.Error = "failed"
		}
		entry.Kind, entry.OK = ladder.KindOutcome, err == nil
		problems = append(problems, journal.Append(entry))
	}
	return errors.Join(problems...)
}

package onboard

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"creel/internal/advisory"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
)

// agreement is what was agreed to, and how to ask for more.
type agreement struct {
	consent func(context.Context, Plan) (bool, error)
	show    ladder.Report

	mu     sync.Mutex // sandboxes are mended side by side; a person answers one question at a time
	agreed Plan
}

// covers asks again when an action disturbs somebody, or loses something, that
// the plan did not name.
func (a *agreement) covers(ctx context.Context, l layer.Layer, do layer.Action) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.agreed.Disturbs()
	more := slices.ContainsFunc(do.Disturbs, func(s string) bool { return !slices.Contains(said, s) }) ||
		do.Destructive && !slices.ContainsFunc(a.agreed.Actions, func(p layer.Action) bool { return p.ID == do.ID && p.Title == do.Title })
	if !more || a.consent == nil {
		return nil
	}
	a.show(ladder.Event{Type: ladder.Planned, Layer: string(l.ID()), Subject: l.Subject(), Title: l.Title(),
		Actions: []layer.Action{do}, Changed: true, Message: "more is needed than was agreed to"})
	agreed, err := a.consent(ctx, Plan{Actions: []layer.Action{do}})
	switch {
	case err != nil:
		return err
	case !agreed:
		return advisory.New("plan-changed", fmt.Sprintf("%s: not agreed to %s", l.Title(), do.Title), nil)
	}
	a.agreed.Actions = append(slices.Clone(a.agreed.Actions), do)
	return nil
}

package bundle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

// attempts is how often a repair plans again when somebody else wrote between
// its looking and its writing.
const attempts = 3

// RepairOptions says how far a repair may go.
type RepairOptions struct {
	// Replace is consent to replace what may be in use. Old values are kept in a
	// backup either way.
	Replace bool
	// Renew also issues good leaves again.
	Renew Renewal
	// Progress receives sentences for a person; nil for none.
	Progress func(message string)
}

// Outcome is what a repair found, did and left.
type Outcome struct {
	// Repaired: something was written, and the whole set was good when it was
	// read again.
	Repaired  bool      `json:"repaired"`
	Written   []string  `json:"written"` // names, as stored
	Before    Report    `json:"before"`
	After     Report    `json:"after"`
	Plan      Plan      `json:"plan"`      // what would make all of it good
	Remaining []Finding `json:"remaining"` // what is not good now
	// NotApplicable says why there is nothing to repair yet; empty when there is
	// a gateway.
	NotApplicable string `json:"not_applicable,omitempty"`
	// Replaced are those of Written that existed before, and Rolled says that the
	// gateway was told to start again with them.
	Replaced []string `json:"replaced"`
	Rolled   bool     `json:"rolled"`
}

// Repair makes a set good: read what the gateway needs, load, inspect, plan,
// issue, apply, and inspect what a second load parses. What cannot be read is
// unknown and is never repaired; where there is no gateway yet nothing is done,
// and that is no error. Members that are good keep their bytes. The gateway is
// rolled when a member that existed was replaced; for one that was absent it
// is not, since it is still waiting for it. A roll that an earlier repair owes
// is made up for. The error is not nil unless the set is
// good at the end; the Outcome is filled as far as it went either way.
//
// It is one step of a start loop as much as a command: it looks first, and on a
// good set it only looks.
func Repair(ctx context.Context, target Target, now time.Time, opts RepairOptions) (Outcome, error) {
	var out Outcome
	var err error
	for range attempts {
		out, err = repair(ctx, target, now, opts)
		if !errors.Is(err, ErrChanged) {
			break
		}
	}
	return out, err
}

func repair(ctx context.Context, target Target, now time.Time, opts RepairOptions) (Outcome, error) {
	out := Outcome{Written: []string{}, Remaining: []Finding{}, Replaced: []string{}}
	want, snapshot, err := Survey(ctx, target)
	if errors.Is(err, ErrNotApplicable) {
		out.NotApplicable = err.Error()
		return out, nil
	}
	if err != nil {
		return out, explained("secrets-unknown", "read bootstrap secrets", err)
	}
	out.Before = Inspect(snapshot, want, now)
	if len(out.Before.Findings) == 0 {
		return out, advisory.New("secrets-unknown", fmt.Sprintf("generation %d of bootstrap secrets is not known", want.Generation), nil)
	}
	out.Plan = MakeRenewal(out.Before, opts.Renew)
	do := out.Plan
	if !opts.Replace {
		do = do.Automatic()
	}
	if !do.NeedsRepair {
		out.After = out.Before
		if err := out.roll(ctx, target, slices.Clone(snapshot.Unrolled)...); err != nil {
			return out, err
		}
		return out, out.conclude(opts.Replace)
	}
	if opts.Progress != nil {
		opts.Progress(announcement(do))
	}
	issued, err := Issue(do, snapshot, want, now, rand.Reader)
	if err != nil {
		return out, advisory.New("secrets-write", "issue bootstrap secrets", err)
	}
	if err := target.Apply(ctx, issued, snapshot); err != nil {
		switch {
		case errors.Is(err, ErrNotApplicable): // the gateway went away meanwhile
			out.NotApplicable = err.Error()
			return out, nil
		case errors.Is(err, ErrChanged):
			return out, advisory.New("secrets-changed", "write bootstrap secrets", err)
		}
		return out, explained("secrets-write", "write bootstrap secrets", err)
	}
	for _, s := range issued {
		out.Written = append(out.Written, s.Name)
		if _, existed := snapshot.Secrets[s.Name]; existed {
			out.Replaced = append(out.Replaced, s.Name)
		}
	}
	if snapshot, err = target.Load(ctx, want); err != nil {
		return out, explained("secrets-unknown", "read bootstrap secrets after writing them", err)
	}
	out.After = Inspect(snapshot, want, now)
	// What was replaced is of use only to a gateway that starts again, also when
	// another member still needs consent.
	if err := out.roll(ctx, target, slices.Concat(out.Replaced, snapshot.Unrolled)...); err != nil {
		return out, err
	}
	if err := out.conclude(opts.Replace); err != nil {
		return out, err
	}
	out.Repaired = true
	if opts.Progress != nil {
		opts.Progress("✓ OpenShell bootstrap secrets created")
	}
	return out, nil
}

// explained gives an error an advisory, unless the store gave it one of its own.
func explained(id, operation string, err error) error {
	if _, ok := advisory.Of(err); ok {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return advisory.New(id, operation, err)
}

// OnlyRenewed reports that everything that was written is a good leaf of the same
// CA as before.
func (o *Outcome) OnlyRenewed() bool {
	for _, name := range o.Written {
		i := slices.IndexFunc(o.Plan.Steps, func(s Step) bool { return s.Name == name })
		if i < 0 || !o.Plan.Steps[i].renews() {
			return false
		}
	}
	return true
}

func (o *Outcome) roll(ctx context.Context, target Target, names ...string) (err error) {
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return nil
	}
	if o.Rolled, err = target.Roll(ctx, names); err != nil {
		return rollRefused("make the gateway start again with "+strings.Join(names, ", "), err)
	}
	o.After.paid()
	return nil
}

// paid takes back what was said of a gateway that has to start again, once it was
// told to.
func (r *Report) paid() {
	// A clone, because the report of before may share them.
	r.Caveats = slices.DeleteFunc(slices.Clone(r.Caveats), func(c health.Caveat) bool { return c.Advisory == notRolled })
}

// notRolled is the advisory of members that were replaced and not taken yet.
const notRolled = "secrets-not-rolled"

// rollRefused keeps the commands of a store that knows what helps.
func rollRefused(operation string, err error) error {
	var hints []string
	if p, ok := advisory.Of(err); ok {
		hints = p.Hints
	}
	return advisory.New(notRolled, operation, err, hints...)
}

// needConsent is the advisory of what may be in use and is therefore not replaced.
const needConsent = "secrets-need-consent"

func (o *Outcome) conclude(consented bool) error {
	o.Remaining = append(o.Remaining, o.After.Bad()...)
	if len(o.Remaining) == 0 {
		return nil
	}
	words := make([]string, len(o.Remaining))
	for i, f := range o.Remaining {
		words[i] = f.String()
	}
	id := needConsent
	if consented {
		id = o.After.Worst().Class.Advisory()
	}
	return advisory.New(id, strings.Join(words, "; "), nil)
}

// announcement is the sentence that says what is about to be written.
func announcement(p Plan) string {
	if len(p.Missing) > 0 {
		return fmt.Sprintf("OpenShell bootstrap secrets missing: %s. Repairing...", strings.Join(p.Missing, ", "))
	}
	words := make([]string, len(p.Steps))
	for i, s := range p.Steps {
		words[i] = s.Title
	}
	return fmt.Sprintf("OpenShell bootstrap secrets: %s. Repairing...", strings.Join(words, "; "))
}

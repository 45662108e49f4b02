package ladder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"creel/internal/health"
	"creel/internal/layer"
)

// Inspect observes layers, which are given lowest first. A layer stands on those
// below it: the gateway's own layers on one another, a sandbox's on the gateway
// and on the lower ones of the same sandbox. One that stands on a layer that is
// not ok is not asked and is unknown, with BlockedBy. Different sandboxes, and
// layers that do not stand on one another, are inspected at the same time.
// Results have the order of layers.
func Inspect(ctx context.Context, layers []layer.Layer) []health.Result {
	ctx = layer.NewRound(ctx)
	results := make([]health.Result, len(layers))
	done := make([]chan struct{}, len(layers))
	for i := range done {
		done[i] = make(chan struct{})
	}
	var wait sync.WaitGroup
	// Enough for the gateway's layers and many sandboxes; a bound, so that a
	// thousand sandboxes do not become a thousand probes at once.
	slots := make(chan struct{}, 32)
	for i, l := range layers {
		wait.Go(func() {
			defer close(done[i])
			for k := range i {
				if !standsOn(l, layers[k]) {
					continue
				}
				<-done[k]
				if results[k].Verdict != health.OK {
					results[i] = blocked(l, results[k])
					return
				}
			}
			slots <- struct{}{}
			results[i] = inspect(ctx, l)
			<-slots
		})
	}
	wait.Wait()
	return results
}

// inspect asks one layer. What is not ok has a reason and a message, whatever
// the layer said.
func inspect(ctx context.Context, l layer.Layer) health.Result {
	r := l.Inspect(ctx)
	if r.Verdict != health.OK {
		if r.Message == "" {
			r.Message = "no reason was given"
		}
		r.Caveats = nil
	} else {
		r.Reason, r.Absent, r.BlockedBy = "", false, ""
	}
	r.Layer, r.Subject = string(l.ID()), l.Subject()
	if r.At.IsZero() {
		r.At = time.Now()
	}
	return r
}

// foundations says which layers a layer stands on, if they are below it. Inference
// stands beside the sandboxes: an agent without a model is an agent all the same.
// Secrets are below their gateway, or above one whose container they are in.
func foundations(id layer.ID) []layer.ID {
	switch id {
	case layer.Host:
		return nil
	case layer.Secrets:
		return []layer.ID{layer.Gateway}
	case layer.Gateway:
		return []layer.ID{layer.Secrets}
	case layer.Registration, layer.Inference:
		return []layer.ID{layer.Gateway}
	case layer.Sandbox:
		return []layer.ID{layer.Gateway}
	case layer.Agent:
		return []layer.ID{layer.Sandbox}
	case layer.Dashboard:
		return []layer.ID{layer.Agent}
	}
	return nil
}

func standsOn(upper, lower layer.Layer) bool {
	if !slices.Contains(foundations(upper.ID()), lower.ID()) {
		return false
	}
	return scope(lower) == "" || scope(lower) == scope(upper)
}

// scope is the sandbox that a layer belongs to; "" for the gateway's own.
func scope(l layer.Layer) string {
	name, _ := strings.CutPrefix(l.Subject(), "sandbox/")
	if name == l.Subject() {
		return ""
	}
	return name
}

func blocked(l layer.Layer, by health.Result) health.Result {
	subject := by.Subject
	if by.BlockedBy != "" {
		subject = by.BlockedBy
	}
	return health.Result{
		Subject: l.Subject(), Layer: string(l.ID()), Verdict: health.Unknown, Reason: "blocked", At: time.Now(),
		Message: fmt.Sprintf("not asked: %s is not ok", describe(subject, by.Layer)), BlockedBy: subject,
	}
}

func describe(subject, layerID string) string {
	if subject == layerID || subject == "" {
		return layerID
	}
	return subject
}

// Plan lists what mending the layers would do, lowest first: exactly what Walk
// goes through, as far as it can be told now. Nothing is planned for what is
// unknown, nor above a layer that cannot be mended.
func Plan(ctx context.Context, layers []layer.Layer, found []health.Result) []layer.Action {
	actions := []layer.Action{}
	stuck := map[string]bool{} // by scope; "" sticks everything above
	for i, l := range layers {
		r := found[i]
		if r.Verdict == health.OK || stuck[""] || stuck[scope(l)] {
			continue
		}
		if r.Verdict == health.Unknown && r.BlockedBy == "" {
			stuck[scope(l)] = stuck[scope(l)] || !beside(layers, i)
			continue
		}
		planned := l.Plan(ctx, r)
		actions = append(actions, planned...)
		if len(planned) == 0 && r.Verdict == health.Failed {
			stuck[scope(l)] = true
		}
	}
	return actions
}

// beside reports that nothing stands on the i-th layer: when it is unknown, the walk
// goes on with the others.
func beside(layers []layer.Layer, i int) bool {
	switch layers[i].ID() {
	case layer.Registration, layer.Inference:
		return true
	case layer.Secrets:
		return slices.ContainsFunc(layers[:i], func(l layer.Layer) bool { return l.ID() == layer.Gateway })
	}
	return false
}

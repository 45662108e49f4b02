// Package layer holds the eight layers that everything a user waits for stands
// on. Each can be inspected, planned for and mended; onboard, status, repair and
// the rest are walks over them.
package layer

import (
	"context"

	"creel/internal/health"
)

// ID names a layer.
type ID string

// The layers, lowest first.
const (
	Host         ID = "host"
	Secrets      ID = "secrets"
	Gateway      ID = "gateway"
	Registration ID = "registration"
	Inference    ID = "inference"
	Sandbox      ID = "sandbox"
	Agent        ID = "agent"
	Dashboard    ID = "dashboard"
)

// Order lists the layers, lowest first.
func Order() []ID {
	return []ID{Host, Secrets, Gateway, Registration, Inference, Sandbox, Agent, Dashboard}
}

// Action is one thing that mending a layer would do.
type Action struct {
	ID          string   `json:"id"`          // stable code, e.g. "start-gateway"
	Title       string   `json:"title"`       // imperative, e.g. "start gateway creel on 127.0.0.1:17670"
	Disturbs    []string `json:"disturbs"`    // subjects, e.g. "sandbox/demo"; empty disturbs nobody
	Destructive bool     `json:"destructive"` // something is lost that cannot be made again
}

// Progress receives one sentence about observed state while a layer is mended.
type Progress func(message string)

// Layer is one rung.
type Layer interface {
	ID() ID
	// Subject is e.g. "gateway" or "sandbox/demo".
	Subject() string
	// Title is what a user reads as a step heading, e.g. "Gateway".
	Title() string
	// Inspect observes now. It is read-only, bounded by a budget and never guesses.
	Inspect(ctx context.Context) health.Result
	// Plan says what mending would do given what was found. It is empty for a
	// layer that is ok, and for one that is unknown for a reason that mending
	// must not touch. found may be the verdict "blocked": then it plans what would
	// be needed once the layers below hold.
	Plan(ctx context.Context, found health.Result) []Action
	// Mend does one action. It returns when done, failed or out of budget.
	Mend(ctx context.Context, do Action, report Progress) error
}

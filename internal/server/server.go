package server

import (
	"context"
	"errors"
)

// Run binds, opens the store, starts everything, calls ready once, serves until
// ctx ends, then drains within the budget gateway-stop and returns when all of it
// has ended. Sandboxes go on. The error is nil after an ordinary end.
func Run(ctx context.Context, cfg Config, ready func(Ready)) error {
	return errors.ErrUnsupported
}

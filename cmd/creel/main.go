// Command creel takes a bare machine to a confined AI agent whose dashboard
// opens. See docs/ and `creel help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"creel/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal cancels; with the default handling back in place the second
	// one leaves at once.
	context.AfterFunc(ctx, stop)
	os.Exit(app.Main(ctx, os.Args[1:], app.Options{}))
}

// Command fakeopenclaw is an agent that is shaped like OpenClaw, see package
// openclawtest.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"creel/test/openclawtest"
)

func main() {
	if !slices.Equal(os.Args[1:], []string{"gateway", "run"}) {
		fmt.Fprintln(os.Stderr, "usage: fakeopenclaw gateway run")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := openclawtest.Serve(ctx, os.Getenv("HOME")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

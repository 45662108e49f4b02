// Command killer is creel with one difference: it kills itself with SIGKILL when
// the journal entry that KILLER_AFTER counts (from 1, in this process) is on disk.
package main

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"creel/internal/app"
	"creel/internal/onboard/ladder"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	after, _ := strconv.Atoi(os.Getenv("KILLER_AFTER")) // 0, which no entry is, never kills
	seen := 0
	os.Exit(app.Main(ctx, os.Args[1:], app.Options{AfterEntry: func(ladder.Entry) {
		if seen++; seen == after {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}}))
}

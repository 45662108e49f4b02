// Command killer is creel with differences that only show when a test asks for them.
// It kills itself with SIGKILL when the journal entry that KILLER_AFTER counts (from
// 1, in this process) is on disk, or after that step of an upgrade which
// KILLER_AFTER_STEP counts. And it is a later version of creel: where its home has a
// file "later", its daemon writes to the database what no earlier version reads, and
// then fails as that file says.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"creel/internal/app"
	"creel/internal/onboard/ladder"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if how, err := os.ReadFile(filepath.Join(os.Getenv("CREEL_HOME"), "later")); err == nil && len(os.Args) > 4 && os.Args[1] == "gateway" && os.Args[2] == "serve" {
		os.Exit(later(ctx, os.Args[4], strings.TrimSpace(string(how))))
	}
	entry, step := counter("KILLER_AFTER"), counter("KILLER_AFTER_STEP")
	os.Exit(app.Main(ctx, os.Args[1:], app.Options{AfterEntry: func(ladder.Entry) { entry() }, AfterStep: func(string) { step() }}))
}

// counter kills the process at the call that a variable counts; 0, which no call is,
// never does.
func counter(variable string) func() {
	after, _ := strconv.Atoi(os.Getenv(variable))
	seen := 0
	return func() {
		if seen++; seen == after {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
}

// later migrates the database as a later version would, and fails.
func later(ctx context.Context, gateway, how string) int {
	path := filepath.Join(os.Getenv("CREEL_HOME"), "state", "gateways", gateway, "gateway.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err == nil {
		_, err = db.Exec("PRAGMA user_version = 1000; CREATE TABLE of_the_later_version (a TEXT) STRICT; INSERT INTO of_the_later_version VALUES ('written'); DELETE FROM objects")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "creel:", err)
		return 3
	}
	switch how {
	case "hangs":
		<-ctx.Done()
		return 0
	case "killed": // its log is left
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	fmt.Fprintln(os.Stderr, "creel: the later version gives up")
	return 1
}

package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/host"
	"creel/internal/supervisor/box"
)

// Memory of a supervisor: it is one of many, and most of the time it waits. The
// limit is soft; a large request may go beyond it.
const (
	garbagePercent = 30
	memoryLimit    = 16 << 20
)

// readiness is the one line on the ready pipe.
type readiness struct {
	OK       bool   `json:"ok"`
	PID      int    `json:"pid,omitempty"`
	Advisory string `json:"advisory,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Main is the "supervise" subcommand: it runs the sandbox whose directory is dir
// until ctx ends or SIGTERM comes, and returns the exit code. On ready, which it
// closes, it writes one line of JSON when the sandbox is up: {"ok":true,"pid":N},
// or when it could not be started: {"ok":false,"advisory":ID,"error":TEXT}. A
// second SIGTERM kills the sandbox without asking.
func Main(ctx context.Context, dir string, ready *os.File) int {
	return supervise(ctx, dir, ready, box.Start)
}

func supervise(ctx context.Context, dir string, ready *os.File, begin starter) int {
	defer runtime.KeepAlive(ready) // the collector would close what may not be ours
	ready = pipe(ready)
	debug.SetGCPercent(garbagePercent)
	debug.SetMemoryLimit(memoryLimit)
	signal.Ignore(syscall.SIGHUP) // the terminal of whoever started the gateway is none of its business
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kill, finished := make(chan struct{}), make(chan struct{})
	listening := make(chan struct{})
	defer func() {
		close(finished)
		<-listening
	}()
	go func() {
		defer close(listening)
		// ctx may end with the first signal as well; only the second one kills.
		for n := 0; ; {
			select {
			case <-signals:
				if n++; n == 2 {
					close(kill)
				}
				cancel()
			case <-finished:
				return
			}
		}
	}()

	told := false
	err := run(ctx, dir, begin, func() error {
		told = true
		return tell(ready, readiness{OK: true, PID: os.Getpid()})
	}, kill)
	if err == nil {
		if !told { // asked to end before it was up
			_ = tell(ready, readiness{Error: "asked to stop while starting"})
		}
		return 0
	}
	err = host.Explain(err, dir)
	fmt.Fprintln(os.Stderr, "creel supervise:", err)
	if !told {
		answer := readiness{Error: err.Error()}
		if p, ok := advisory.Of(err); ok {
			answer.Advisory = p.ID
		}
		_ = tell(ready, answer) // whoever asked may be gone
	}
	return 1
}

// pipe is f if that is a pipe, and then no program inherits it. The number that
// it is expected under may be anything's when a person runs the subcommand.
func pipe(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return nil
	}
	syscall.CloseOnExec(int(f.Fd()))
	return f
}

// tell writes the line and closes the pipe.
func tell(ready *os.File, r readiness) error {
	if ready == nil {
		return nil
	}
	err := json.NewEncoder(ready).Encode(r)
	if closing := ready.Close(); err == nil {
		err = closing
	}
	return err
}

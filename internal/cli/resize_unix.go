//go:build unix

package cli

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// watchSize sends the terminal's size after every change until stop is called.
// Only the newest size matters: one that nobody took is replaced.
func watchSize(terminal *os.File) (<-chan [2]int, func()) {
	signals := make(chan os.Signal, 1)
	sizes := make(chan [2]int, 1)
	quit := make(chan struct{})
	var done sync.WaitGroup
	signal.Notify(signals, syscall.SIGWINCH)
	done.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-signals:
			}
			cols, rows, err := term.GetSize(int(terminal.Fd()))
			if err != nil {
				continue
			}
			select {
			case <-sizes:
			default:
			}
			sizes <- [2]int{cols, rows}
		}
	})
	return sizes, func() {
		signal.Stop(signals)
		close(quit)
		done.Wait()
	}
}

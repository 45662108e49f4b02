package host

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestStandingOf(t *testing.T) {
	for want, c := range map[Standing]struct {
		p   Process
		err error
	}{
		Unseen:  {err: errors.New("too many open files")},
		Running: {p: Process{Start: 7, State: 'S'}},
		Halted:  {p: Process{Start: 7, State: 'T'}},
		Ended:   {p: Process{Start: 7, State: 'Z'}},
		Nobody:  {err: fmt.Errorf("look up: %w", ErrNoProcess)},
		Another: {p: Process{Start: 8, State: 'Z'}},
	} {
		if got := StandingOf(c.p, c.err, 7); got != want {
			t.Errorf("%+v, %v: %d, want %d", c.p, c.err, got, want)
		}
	}
	p, err := Lookup(os.Getpid())
	if got := StandingOf(p, err, p.Start); got != Running {
		t.Errorf("this process: %d", got)
	}
}

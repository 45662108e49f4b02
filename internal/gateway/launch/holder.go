package launch

import (
	"errors"
	"fmt"
	"io/fs"

	"creel/internal/advisory"
	"creel/internal/host"
	"creel/internal/state"
)

// Holder names the process that holds a lock, so that it can be signalled; pid 0 when
// the lock is free. recorded is what its marker says, and believed of a process that
// began when that says. One without a marker (it is starting or stopping) is known by
// what it wrote into the lock, if it began before that. what is whose lock it is, e.g.
// "a gateway".
func Holder(lock, what string, recorded func() (pid int, start uint64, err error)) (pid int, start uint64, err error) {
	held, holder, err := state.Held(lock)
	if err != nil {
		return 0, 0, advisory.New("gateway-unknown", "whether "+what+" runs could not be asked", err)
	}
	if !held {
		return 0, 0, nil
	}
	pid, start, recordErr := recorded()
	if recordErr == nil {
		p, err := host.Lookup(pid)
		switch host.StandingOf(p, err, start) {
		case host.Running, host.Halted, host.Ended: // its lock goes with its last thread, which is waited for
			return pid, start, nil
		}
	}
	unidentified := func(cause error) error {
		return advisory.New("gateway-unidentified", fmt.Sprintf("%s is held by a process that cannot be identified; none was signalled", lock), cause)
	}
	if recordErr != nil && !errors.Is(recordErr, fs.ErrNotExist) && holder.PID == 0 {
		return 0, 0, unidentified(recordErr)
	}
	p, err := host.Lookup(holder.PID)
	if err != nil {
		return 0, 0, unidentified(err)
	}
	before, err := host.BeganBefore(p, holder.Since)
	if err != nil || !before || p.Gone() {
		return 0, 0, unidentified(err)
	}
	return p.PID, p.Start, nil
}

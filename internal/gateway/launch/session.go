package launch

import (
	"context"
	"errors"
	"fmt"

	"creel/internal/budget"
	"creel/internal/host"
)

// EndSession kills what a gateway that has ended left in its session, a fork that
// keeps the port for one. leader is the pid that the gateway had, which was its
// session's number; it began at start. The kernel gives the number to nobody else
// while a process of that session lives, and a process that is younger than the
// session is not the leader of another one.
func EndSession(leader int, start uint64) error {
	if p, err := host.Lookup(leader); err == nil && (p.Start != start || !p.Gone()) {
		return nil // the number is another process's now, or the gateway lives
	}
	members, err := host.Session(leader)
	if err != nil {
		return nil //nolint:nilerr // nothing is known of any: nothing is ended
	}
	var problems []error
	for _, m := range members {
		if m.PID == leader || m.Start < start || m.Gone() {
			continue
		}
		problems = append(problems, end(m))
	}
	return errors.Join(problems...)
}

// end has a budget of its own: it is also needed when a caller's time is over.
func end(m host.Process) error {
	p, err := OpenProcess(m.PID, m.Start)
	if errors.Is(err, host.ErrNoProcess) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end what the gateway left: %w", err)
	}
	defer p.Close()
	if err := p.Signal(Kill); err != nil {
		return fmt.Errorf("end what the gateway left: %w", err)
	}
	return p.Wait(context.Background(), budget.Lock)
}

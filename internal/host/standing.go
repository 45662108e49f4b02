package host

import "errors"

// Standing is how the process is that a record names by its pid and its start.
type Standing uint8

// Standings.
const (
	Unseen  Standing = iota // it could not be looked at
	Running                 // it is there, and is the one
	Halted                  // it is, and is stopped by a signal
	Ended                   // its first thread has ended, and its parent has not noticed
	Nobody                  // there is no process of that pid
	Another                 // the pid belongs to another process
)

// StandingOf judges what Lookup answered about the pid of a process that began at
// start.
func StandingOf(p Process, err error, start uint64) Standing {
	switch {
	case errors.Is(err, ErrNoProcess):
		return Nobody
	case err != nil:
		return Unseen
	case p.Start != start:
		return Another
	case p.Gone():
		return Ended
	case p.Stopped():
		return Halted
	}
	return Running
}

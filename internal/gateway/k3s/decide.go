package k3s

import "creel/internal/health"

// presence is what is known of the gateway's container.
type presence uint8

const (
	unseen  presence = iota // the engine could not be asked, or has not said
	missing                 // the engine positively knows no such container
	stopped                 // it exists, and nothing runs in it
	held                    // it exists and is paused, or on its way: nothing can be asked in it
	running
)

// facts are what a decision is made of.
type facts struct {
	container presence
	// ready is whether the gateway answers at its endpoint: HTTP and Health, with
	// the certificate of its own authority.
	ready health.Verdict
	// otherImage: the container's image is of another version than OpenShell's own
	// command line here.
	otherImage bool
}

// decision is what becomes of a gateway that was found.
type decision uint8

const (
	refuse      decision = iota // nothing is touched; the reason is told
	reuse                       // it is as it should be
	reuseWarned                 // it answers, and is used although its container cannot be looked at
	cleanUp                     // what remains of it is only its registration
	start                       // its container is started
	restart                     // its container is restarted, with what runs in it
	upgrade                     // it works, and is of another version than its users
)

// decide is the table of what is done about a gateway, container by container.
// Whatever is unknown is neither restarted nor cleaned up; and what answers with
// the right certificate is used, whatever the engine says.
func decide(f facts) decision {
	answers := f.ready == health.OK
	switch f.container {
	case running:
		switch {
		case answers && f.otherImage:
			return upgrade
		case answers:
			return reuse
		case f.ready == health.Failed:
			return restart
		}
	case unseen:
		if answers {
			return reuseWarned
		}
	case missing:
		if answers { // another engine runs it
			return reuseWarned
		}
		return cleanUp
	case stopped:
		return start
	}
	return refuse
}

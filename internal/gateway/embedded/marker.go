package embedded

import (
	"errors"
	"fmt"
	"time"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// markerVersion is the version of the marker's JSON.
const markerVersion = 1

// marker is gateway.json: who serves, and how to recognise the process. It is
// written when the daemon is ready and removed when it begins to end; it proves
// nothing without the held lock.
type marker struct {
	Version    int    `json:"version"`
	Gateway    string `json:"gateway"`
	InstanceID string `json:"instance_id"`
	PID        int    `json:"pid"`
	// ProcessStart is in clock ticks since boot (host.Process.Start).
	ProcessStart uint64    `json:"process_start"`
	StartedAt    time.Time `json:"started_at"`
	Endpoint     endpoint  `json:"endpoint"`
	Creel        string    `json:"creel_version"`
	BuildID      string    `json:"build_id"`
}

type endpoint struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

func (e endpoint) domain() gateway.Endpoint { return gateway.Endpoint{Host: e.Host, Port: e.Port} }

func (e endpoint) check() error { return launch.CheckEndpoint(e.domain()) }

// readMarker reads the marker. Its absence is fs.ErrNotExist; a file that is not
// a marker of this gateway, or of a newer Creel, is an error that names it.
func readMarker(g state.Gateway) (marker, error) {
	b, err := state.ReadSmall(g.Marker())
	if err != nil {
		return marker{}, err
	}
	m, err := parseMarker(b, g.Name)
	if err != nil {
		return marker{}, launch.UnusableMarker(g.Marker(), err)
	}
	return m, nil
}

// parseMarker checks every field that something is decided by.
func parseMarker(b []byte, name string) (marker, error) {
	var m marker
	if err := state.ParseDocument(b, markerVersion, &m); err != nil {
		return marker{}, err
	}
	switch {
	case m.Gateway != name:
		return marker{}, fmt.Errorf("it is of gateway %q, not %q", m.Gateway, name)
	case m.InstanceID == "":
		return marker{}, errors.New("no instance id")
	case m.PID < 2: // pid 1 and below can be nobody's daemon and must never be signalled
		return marker{}, fmt.Errorf("pid %d is no daemon's", m.PID)
	case m.ProcessStart == 0:
		return marker{}, errors.New("no process start time")
	}
	return m, m.Endpoint.check()
}

func writeMarker(g state.Gateway, m marker) error {
	return state.WriteDocument(g.Marker(), m)
}

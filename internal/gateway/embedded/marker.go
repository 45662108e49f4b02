package embedded

import (
	"errors"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// marker is gateway.json: who serves, and how to recognise the process. It is
// written when the daemon is ready and removed when it begins to end; it proves
// nothing without the held lock.
type marker struct {
	launch.Mark
	InstanceID string   `json:"instance_id"`
	Endpoint   endpoint `json:"endpoint"`
	Creel      string   `json:"creel_version"`
	BuildID    string   `json:"build_id"`
}

type endpoint struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

func (e endpoint) domain() gateway.Endpoint { return gateway.Endpoint{Host: e.Host, Port: e.Port} }

func (e endpoint) check() error { return launch.CheckEndpoint(e.domain()) }

// Check is for launch.Marker.
func (m marker) Check() error {
	if m.InstanceID == "" {
		return errors.New("no instance id")
	}
	return m.Endpoint.check()
}

// readMarker reads the marker, as launch.ReadMarker does.
func readMarker(g state.Gateway) (marker, error) {
	return launch.ReadMarker[marker](g.Marker(), g.Name)
}

func writeMarker(g state.Gateway, m marker) error {
	return state.WriteDocument(g.Marker(), m)
}

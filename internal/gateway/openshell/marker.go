package openshell

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// markerVersion is the version of the marker's JSON.
const markerVersion = 1

// marker is openshell.json: which process was launched, and with what. It is
// written at once when the process runs, so that one whose launcher was killed is
// found again; it is no proof of life.
type marker struct {
	Version int    `json:"version"`
	Gateway string `json:"gateway"`
	PID     int    `json:"pid"`
	// ProcessStart is in clock ticks since boot (host.Process.Start).
	ProcessStart    uint64    `json:"process_start"`
	StartedAt       time.Time `json:"started_at"`
	Driver          string    `json:"driver"`
	Port            int       `json:"port"`
	Plaintext       bool      `json:"plaintext"`
	EnvironmentHash string    `json:"environment_hash"`
	Binary          string    `json:"binary"`
	OpenShell       string    `json:"openshell_version"` // what Health told; empty before
	DockerHost      string    `json:"docker_host"`
}

func (m marker) endpoint() gateway.Endpoint {
	return gateway.Endpoint{Host: bind, Port: m.Port, Plaintext: m.Plaintext}
}

// readMarker reads the marker. Its absence is fs.ErrNotExist; a file that is not a
// marker of this gateway, or of a newer Creel, is an error that names it.
func readMarker(g state.Gateway) (marker, error) {
	path := g.File(state.ProcessFile)
	b, err := state.ReadSmall(path)
	if err != nil {
		return marker{}, err
	}
	m, err := parseMarker(b, g.Name)
	if err != nil {
		return marker{}, launch.UnusableMarker(path, err)
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
	case m.PID < 2: // pid 1 and below can be nobody's gateway and must never be signalled
		return marker{}, fmt.Errorf("pid %d is no gateway's", m.PID)
	case m.ProcessStart == 0:
		return marker{}, errors.New("no process start time")
	case m.Port < 1 || m.Port > 65535:
		return marker{}, fmt.Errorf("port %d does not exist", m.Port)
	}
	return m, nil
}

// writeMarker records the process, and its pid and port for whoever looks.
func writeMarker(g state.Gateway, m marker) error {
	return errors.Join(
		state.WriteDocument(g.File(state.ProcessFile), m),
		state.WriteFile(g.File(state.ProcessIDFile), []byte(strconv.Itoa(m.PID)+"\n"), state.FileMode),
		launch.WriteEndpoint(g, bind, m.Port))
}

// removeMarker forgets a process that has ended.
func removeMarker(g state.Gateway) error {
	return errors.Join(state.RemoveIfExists(g.File(state.ProcessFile)), state.RemoveIfExists(g.File(state.ProcessIDFile)))
}

package openshell

import (
	"errors"
	"strconv"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// marker is openshell.json: which process was launched, and with what. It is
// written at once when the process runs, so that one whose launcher was killed is
// found again; it is no proof of life.
type marker struct {
	launch.Mark
	Driver          string `json:"driver"`
	Port            int    `json:"port"`
	Plaintext       bool   `json:"plaintext"`
	EnvironmentHash string `json:"environment_hash"`
	Binary          string `json:"binary"`
	OpenShell       string `json:"openshell_version"` // what Health told; empty before
	DockerHost      string `json:"docker_host"`
}

func (m marker) endpoint() gateway.Endpoint {
	return gateway.Endpoint{Host: bind, Port: m.Port, Plaintext: m.Plaintext}
}

// Check is for launch.Marker.
func (m marker) Check() error { return launch.CheckEndpoint(m.endpoint()) }

// readMarker reads the marker, as launch.ReadMarker does.
func readMarker(g state.Gateway) (marker, error) {
	return launch.ReadMarker[marker](g.File(state.ProcessFile), g.Name)
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

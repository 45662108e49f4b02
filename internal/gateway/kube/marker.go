package kube

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

// marker is portforward.json: the process that keeps the port-forward, where it
// listens, and which pod it leads to at the moment. It proves nothing without the
// held lock.
type marker struct {
	Version int    `json:"version"`
	Gateway string `json:"gateway"`
	PID     int    `json:"pid"`
	// ProcessStart is in clock ticks since boot (host.Process.Start).
	ProcessStart uint64    `json:"process_start"`
	StartedAt    time.Time `json:"started_at"`
	Port         int       `json:"port"`
	BuildID      string    `json:"build_id"`
	Place        place     `json:"place"`
	Link         link      `json:"link"`
}

// place is what a port-forward leads to.
type place struct {
	Server      string `json:"server"`
	Namespace   string `json:"namespace"`
	StatefulSet string `json:"statefulset"`
}

// link is the way to a pod: there is one when Pod is not empty.
type link struct {
	Pod     string    `json:"pod"`
	PodUID  string    `json:"pod_uid"`
	PodPort int       `json:"pod_port"`
	Since   time.Time `json:"since"`
	Problem string    `json:"problem"` // why there is none
}

func (m marker) endpoint() gateway.Endpoint { return gateway.Endpoint{Host: bind, Port: m.Port} }

// readMarker reads the marker. Its absence is fs.ErrNotExist; a file that is not a
// marker of this gateway, or of a newer Creel, is an error that names it.
func readMarker(g state.Gateway) (marker, error) {
	path := g.File(state.PortForwardFile)
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
	case m.PID < 2: // pid 1 and below can be nobody's port-forward and must never be signalled
		return marker{}, fmt.Errorf("pid %d is no port-forward's", m.PID)
	case m.ProcessStart == 0:
		return marker{}, errors.New("no process start time")
	case m.Port < 1 || m.Port > 65535:
		return marker{}, fmt.Errorf("port %d does not exist", m.Port)
	}
	return m, nil
}

func writeMarker(g state.Gateway, m marker) error {
	return state.WriteDocument(g.File(state.PortForwardFile), m)
}

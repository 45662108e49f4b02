package kube

import (
	"time"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// marker is portforward.json: the process that keeps the port-forward, where it
// listens, and which pod it leads to at the moment. It proves nothing without the
// held lock.
type marker struct {
	launch.Mark
	Port    int    `json:"port"`
	BuildID string `json:"build_id"`
	Place   place  `json:"place"`
	Link    link   `json:"link"`
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

// Check is for launch.Marker.
func (m marker) Check() error { return launch.CheckEndpoint(m.endpoint()) }

// readMarker reads the marker, as launch.ReadMarker does.
func readMarker(g state.Gateway) (marker, error) {
	return launch.ReadMarker[marker](g.File(state.PortForwardFile), g.Name)
}

func writeMarker(g state.Gateway, m marker) error {
	return state.WriteDocument(g.File(state.PortForwardFile), m)
}

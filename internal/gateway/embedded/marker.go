package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/state"
)

// markerVersion is the version of the marker's and the endpoint's JSON.
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

func (e endpoint) check() error {
	if ip, err := netip.ParseAddr(e.Host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("host %q is not a loopback address", e.Host)
	}
	if e.Port < 1 || e.Port > 65535 {
		return fmt.Errorf("port %d does not exist", e.Port)
	}
	return nil
}

// readMarker reads the marker. Its absence is fs.ErrNotExist; a file that is not
// a marker of this gateway, or of a newer Creel, is an error that names it.
func readMarker(g state.Gateway) (marker, error) {
	b, err := state.ReadSmall(g.Marker())
	if err != nil {
		return marker{}, err
	}
	m, err := parseMarker(b, g.Name)
	if err != nil {
		return marker{}, refuse(g.Marker(), err)
	}
	return m, nil
}

// errNewer marks a file of a newer Creel.
var errNewer = errors.New("written by a newer Creel")

func refuse(path string, err error) error {
	if errors.Is(err, errNewer) {
		return advisory.New("gateway-marker-newer", path+" cannot be understood", err)
	}
	return advisory.New("gateway-marker-invalid", path+" is not what Creel wrote there", err)
}

// parseMarker checks every field that something is decided by.
func parseMarker(b []byte, name string) (marker, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return marker{}, fmt.Errorf("parse: %w", err)
	}
	if version.Version > markerVersion {
		return marker{}, fmt.Errorf("version %d, this Creel knows %d: %w", version.Version, markerVersion, errNewer)
	}
	var m marker
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return marker{}, fmt.Errorf("parse: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return marker{}, errors.New("parse: more than one document")
	}
	switch {
	case m.Version < 1:
		return marker{}, fmt.Errorf("version %d does not exist", m.Version)
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

func writeMarker(g state.Gateway, m marker) error { return writeJSON(g.Marker(), m) }

// lastEndpoint is endpoint.json: where the gateway last served. It outlives the
// daemon, so that a restarted gateway is found where its clients look.
type lastEndpoint struct {
	Version int `json:"version"`
	endpoint
}

func readEndpoint(g state.Gateway) (endpoint, error) {
	b, err := state.ReadSmall(g.File(state.EndpointFile))
	if err != nil {
		return endpoint{}, err
	}
	var e lastEndpoint
	if err := json.Unmarshal(b, &e); err != nil {
		return endpoint{}, fmt.Errorf("parse: %w", err)
	}
	if err := e.check(); err != nil {
		return endpoint{}, err
	}
	return e.endpoint, nil
}

func writeEndpoint(g state.Gateway, e endpoint) error {
	if old, err := readEndpoint(g); err == nil && old == e {
		return nil
	}
	return writeJSON(g.File(state.EndpointFile), lastEndpoint{Version: markerVersion, endpoint: e})
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return state.WriteFile(path, append(b, '\n'), state.FileMode)
}

package launch

import (
	"errors"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/state"
)

// markerVersion is the version of the JSON of markers.
const markerVersion = 1

// Mark is what the markers of gateways' processes have in common: which process
// one is about.
type Mark struct {
	Version int    `json:"version"`
	Gateway string `json:"gateway"`
	PID     int    `json:"pid"`
	// ProcessStart is in clock ticks since boot (host.Process.Start).
	ProcessStart uint64    `json:"process_start"`
	StartedAt    time.Time `json:"started_at"`
}

// MarkOf is what a new marker says of a process of a gateway: its start in clock
// ticks since boot and, zero where it is not known, by the clock.
func MarkOf(gateway string, pid int, start uint64, at time.Time) Mark {
	return Mark{Version: markerVersion, Gateway: gateway, PID: pid, ProcessStart: start, StartedAt: at}
}

// About is which process the marker is about.
func (m Mark) About() Mark { return m }

// Marker is a JSON document that embeds a Mark.
type Marker interface {
	About() Mark
	// Check says what is wrong with the other fields that something is decided by.
	Check() error
}

// ReadMarker reads the marker at path. Its absence is fs.ErrNotExist; a file that is
// not a marker of this gateway, or of a newer Creel, is an error that names it.
func ReadMarker[M Marker](path, gateway string) (M, error) {
	var none M
	b, err := state.ReadSmall(path)
	if err != nil {
		return none, err
	}
	m, err := ParseMarker[M](b, gateway)
	if err != nil {
		return none, unusable(path, err)
	}
	return m, nil
}

// ParseMarker checks every field that something is decided by.
func ParseMarker[M Marker](b []byte, gateway string) (M, error) {
	var m, none M
	if err := state.ParseDocument(b, markerVersion, &m); err != nil {
		return none, err
	}
	p := m.About()
	switch {
	case p.Gateway != gateway:
		return none, fmt.Errorf("it is of gateway %q, not %q", p.Gateway, gateway)
	case p.PID < 2: // pid 1 and below can be nobody's gateway and must never be signalled
		return none, fmt.Errorf("pid %d is no gateway's", p.PID)
	case p.ProcessStart == 0:
		return none, errors.New("no process start time")
	}
	if err := m.Check(); err != nil {
		return none, err
	}
	return m, nil
}

// unusable says what is wrong with the marker at path, which could be read and not
// understood.
func unusable(path string, err error) error {
	var newer state.NewerError
	if errors.As(err, &newer) {
		return advisory.New("gateway-marker-newer", path+" cannot be understood", err)
	}
	return advisory.New("gateway-marker-invalid", path+" is not what Creel wrote there", err)
}

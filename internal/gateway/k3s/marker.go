package k3s

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/host"
	"creel/internal/host/engine"
	"creel/internal/state"
)

// markerVersion is the version of the marker's JSON.
const markerVersion = 1

// marker is container.json: in which container the gateway was last seen ready,
// where, and what opened it. With it a look needs to run nothing in the container;
// it proves nothing by itself, and without it, or with one that is not understood,
// the cluster is asked.
type marker struct {
	Version   int    `json:"version"`
	Gateway   string `json:"gateway"`
	Container string `json:"container"`
	ID        string `json:"id"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
	// Client is the SHA-256 of the client files of the set in that container.
	Client string `json:"client"`
}

func (m marker) endpoint() gateway.Endpoint { return gateway.Endpoint{Host: m.Host, Port: m.Port} }

// proves reports that the client files are of the set in that container.
func (m marker) proves(id string, c bundle.ClientFiles) bool {
	return m.ID != "" && m.ID == id && m.Client == digest(c)
}

func digest(c bundle.ClientFiles) string {
	h := sha256.New()
	for _, part := range [][]byte{c.CA, c.Cert, c.Key} {
		_, _ = fmt.Fprintf(h, "%d\n", len(part)) // a hash cannot fail
		_, _ = h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readMarker(g state.Gateway) (marker, error) {
	b, err := state.ReadSmall(g.File(state.ContainerFile))
	if err != nil {
		return marker{}, err
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return marker{}, fmt.Errorf("parse: %w", err)
	}
	if m.Version != markerVersion || m.Gateway != g.Name || m.Port < 1 || m.Port > 65535 || m.Host == "" {
		return marker{}, fmt.Errorf("%s is not what this Creel writes there", state.ContainerFile)
	}
	return m, nil
}

// remember writes the marker of a gateway that is ready, unless it says so already.
func (r *Runtime) remember(box engine.Container, e gateway.Endpoint, c bundle.ClientFiles) error {
	g := r.cfg.Gateway
	m := marker{Version: markerVersion, Gateway: g.Name, Container: box.Name, ID: box.ID, Host: e.Host, Port: e.Port, Client: digest(c)}
	if old, err := readMarker(g); err == nil && old == m {
		return nil
	}
	if err := state.MkdirAll(g.Dir()); err != nil {
		return host.Explain(err, g.Dir())
	}
	return host.Explain(state.WriteDocument(g.File(state.ContainerFile), m), g.Dir())
}

package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"creel/internal/gateway"
	"creel/internal/host"
	"creel/internal/state"
)

// endpointVersion is the version of endpoint.json.
const endpointVersion = 1

// lastEndpoint is endpoint.json: where a gateway, or the port-forward to it, last was
// on this machine. It outlives the process, so that one that is started again is found
// where its clients look.
type lastEndpoint struct {
	Version int    `json:"version"`
	Host    string `json:"host"`
	Port    int    `json:"port"`
}

// CheckEndpoint refuses what no process of this machine listens at for this machine.
func CheckEndpoint(e gateway.Endpoint) error {
	if ip, err := netip.ParseAddr(e.Host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("host %q is not a loopback address", e.Host)
	}
	if e.Port < 1 || e.Port > 65535 {
		return fmt.Errorf("port %d does not exist", e.Port)
	}
	return nil
}

// Moved says why a gateway that was started is not where its clients look: at the
// recorded endpoint, else at byDefault. It is asked before the start, and what it returns
// after it, with the port that the gateway took; "" where it is there.
func Moved(g state.Gateway, byDefault int) func(port int) string {
	last, err := ReadEndpoint(g)
	wanted := last.Port
	if wanted == 0 {
		wanted = byDefault
	}
	return func(port int) string {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("warning: where gateway %s was before cannot be read (%s: %s); it is on port %d now", g.Name, state.EndpointFile, err, port)
		}
		if port == wanted {
			return ""
		}
		by := "was taken"
		if u, held := host.PortHolder(wanted); held {
			by = "is taken by " + u.String()
		}
		return fmt.Sprintf("warning: port %d %s; gateway %s is on port %d instead", wanted, by, g.Name, port)
	}
}

// ReadEndpoint reads endpoint.json; an error leaves the endpoint empty.
func ReadEndpoint(g state.Gateway) (gateway.Endpoint, error) {
	b, err := state.ReadSmall(g.File(state.EndpointFile))
	if err != nil {
		return gateway.Endpoint{}, err
	}
	var last lastEndpoint
	if err := json.Unmarshal(b, &last); err != nil {
		return gateway.Endpoint{}, fmt.Errorf("parse: %w", err)
	}
	e := gateway.Endpoint{Host: last.Host, Port: last.Port}
	if err := CheckEndpoint(e); err != nil {
		return gateway.Endpoint{}, err
	}
	return e, nil
}

// WriteEndpoint writes endpoint.json unless it says the same already.
func WriteEndpoint(g state.Gateway, host string, port int) error {
	if old, err := ReadEndpoint(g); err == nil && old.Host == host && old.Port == port {
		return nil
	}
	return state.WriteDocument(g.File(state.EndpointFile), lastEndpoint{Version: endpointVersion, Host: host, Port: port})
}

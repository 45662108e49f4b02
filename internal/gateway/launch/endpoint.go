package launch

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"creel/internal/gateway"
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

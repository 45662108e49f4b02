package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/host"
	"creel/internal/state"
)

// givenVersion is the version of start.json.
const givenVersion = 1

// given is start.json: what a daemon that a service manager starts takes in place of
// what the document says. Nobody shakes hands with such a daemon, and one that an
// upgrade goes back to runs with the settings that it had, not with those that did
// not work.
type given struct {
	Version  int      `json:"version"`
	Settings settings `json:"settings"`
	// Document is what the document said then; with another one the file is stale.
	Document settings `json:"document"`
}

// give leaves the settings for the daemon that the service manager starts next, and
// whenever it starts it again. Settings that are the document's, or that the daemon
// remembers by itself, need no file.
func (r *Runtime) give(with settings) error {
	path := r.cfg.Gateway.File(state.StartFile)
	document := settings{Port: r.cfg.Port, PortExplicit: r.cfg.PortExplicit}
	if with.Port == 0 || !document.PortExplicit || with == document {
		return host.Explain(state.RemoveIfExists(path), path)
	}
	return host.Explain(state.WriteDocument(path, given{Version: givenVersion, Settings: with, Document: document}), path)
}

// takeGiven returns what was left for a daemon that nobody launched and whose
// document says so; false where nothing was, or what is there is stale.
func takeGiven(g state.Gateway, document settings) (settings, bool) {
	var with given
	b, err := state.ReadSmall(g.File(state.StartFile))
	if err != nil || json.Unmarshal(b, &with) != nil || with.Version != givenVersion || with.Document != document {
		return settings{}, false
	}
	return with.Settings, with.Settings.Port > 0 && with.Settings.Port <= 65535
}

// bindable refuses an explicit port that somebody else has, while the gateway still
// serves on another one: it is not stopped for what cannot work.
func (r *Runtime) bindable(ctx context.Context, now gateway.Endpoint) error {
	port := r.cfg.Port
	if port == 0 || !r.cfg.PortExplicit || port == now.Port {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return l.Close()
	}
	what := fmt.Sprintf("gateway %s goes on at port %d: port %d cannot be listened on", r.cfg.Gateway.Name, now.Port, port)
	if u, ok := host.PortHolder(port); ok {
		what += " (held by " + u.String() + ")"
	}
	return advisory.New("port-in-use", what, err)
}

// Package server is the embedded gateway: the daemon's API over mutual TLS and a
// Unix socket, its store, its reconciler and its relay hub. It decides nothing
// about how a sandbox is run (that is a driver's) nor about how the daemon is
// launched, locked and logged (that is package gateway/embedded's).
package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"creel/internal/bundle"
	"creel/internal/inference"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// DefaultPort is the wanted port of the API when the user names none.
const DefaultPort = 17670

// Host is the only address that the API listens on.
const Host = "127.0.0.1"

// Config is what a gateway daemon is made of.
type Config struct {
	// Gateway names the files: the database, the key of stored credentials, the
	// Unix socket, the sandboxes.
	Gateway  state.Gateway
	Material bundle.Material
	// Certificate is the server certificate to present, asked at each handshake,
	// so that a renewed one is taken without a restart; nil is Material's.
	Certificate func() *tls.Certificate
	// Port is the wanted port; 0 means DefaultPort. When it is taken the next free
	// one is bound, unless PortExplicit is set: then Run returns "port-taken".
	Port         int
	PortExplicit bool
	Driver       sandbox.Driver
	Version      string
	BuildID      string
	// Log receives the daemon's log; nil discards it.
	Log *slog.Logger
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Check asks a model provider whether it answers; nil means that it cannot be
	// asked.
	Check func(context.Context, inference.Route) inference.Check
}

// Ready says where a daemon serves.
type Ready struct {
	InstanceID string // UUID, new at every start
	PID        int
	Host       string
	Port       int
}

func (c Config) withDefaults() (Config, error) {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Driver == nil:
		return c, fmt.Errorf("configure gateway: no driver")
	case len(c.Material.Server.Certificate) == 0 || c.Material.CA == nil || len(c.Material.SandboxKey) == 0:
		return c, fmt.Errorf("configure gateway: bootstrap secrets are incomplete")
	case c.Port < 0 || c.Port > 65535:
		return c, fmt.Errorf("configure gateway: port %d is not between 1 and 65535", c.Port)
	}
	return c, nil
}

// tls is what the API listens with.
func (c Config) tls() *tls.Config {
	t := c.Material.ServerConfig()
	if c.Certificate != nil {
		t.Certificates = nil
		t.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate(), nil }
	}
	return t
}

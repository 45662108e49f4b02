// Package servertest runs a real gateway daemon in a test: real TLS, gRPC, Unix
// socket and database, with sandboxes whose supervisors live in the test's
// process and confine nothing.
package servertest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/server"
	"creel/internal/state"
)

// Wait is how long a test waits for what should happen at once.
const Wait = 20 * time.Second

// Material issues bootstrap secrets.
func Material(tb testing.TB) bundle.Material {
	tb.Helper()
	want := bundle.Requirements{Generation: bundle.Generation2}
	now := time.Now()
	secrets, err := bundle.Issue(bundle.MakePlan(bundle.Inspect(bundle.Snapshot{}, want, now)), bundle.Snapshot{}, want, now, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	snapshot := bundle.Snapshot{Secrets: map[string]bundle.Secret{}}
	for _, s := range secrets {
		snapshot.Secrets[s.Name] = s
	}
	m, err := bundle.Open(snapshot)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// Directory names a gateway's files below a new directory whose path is short
// enough for a socket.
func Directory(tb testing.TB) state.Gateway {
	tb.Helper()
	dir, err := os.MkdirTemp("", "creel")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return state.Roots{Config: filepath.Join(dir, "config"), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"),
		OpenShell: filepath.Join(dir, "openshell")}.Gateway("creel")
}

// Gateway is a daemon that can be stopped and started again on the same files.
type Gateway struct {
	Config server.Config
	Driver *Driver
	Ready  server.Ready

	tb     testing.TB
	cancel context.CancelFunc
	ended  chan error
}

// Start runs a daemon on new files until the test ends.
func Start(tb testing.TB, change ...func(*server.Config)) *Gateway {
	tb.Helper()
	g := New(tb, change...)
	g.Run()
	return g
}

// New makes a daemon's files and driver without running it.
func New(tb testing.TB, change ...func(*server.Config)) *Gateway {
	tb.Helper()
	dir := Directory(tb)
	g := &Gateway{tb: tb, Driver: NewDriver(dir.Socket())}
	g.Driver.HandsOver = dir.RelaySocket()
	g.Config = server.Config{Gateway: dir, Material: Material(tb), Port: 27670, Driver: g.Driver, Version: "1.2.3-test",
		BuildID: "build-test", Log: slog.New(slog.NewTextHandler(tb.Output(), nil))}
	for _, c := range change {
		c(&g.Config)
	}
	tb.Cleanup(func() {
		g.Stop()
		g.Driver.Close()
	})
	return g
}

// Run starts the daemon and waits until it serves.
func (g *Gateway) Run() {
	g.tb.Helper()
	if err := g.TryRun(); err != nil {
		g.tb.Fatalf("gateway ended: %v", err)
	}
}

// TryRun starts the daemon and returns when it serves, or why it did not.
func (g *Gateway) TryRun() error {
	g.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan server.Ready, 1), make(chan error, 1)
	go func() { ended <- server.Run(ctx, g.Config, func(r server.Ready) { ready <- r }) }()
	select {
	case g.Ready = <-ready:
		g.cancel, g.ended = cancel, ended
		return nil
	case err := <-ended:
		cancel()
		return err
	case <-time.After(Wait):
		cancel()
		g.tb.Fatal("gateway neither serves nor ends")
		return nil
	}
}

// Stop ends the daemon as SIGTERM does and waits for it; sandboxes go on.
func (g *Gateway) Stop() {
	g.tb.Helper()
	if g.cancel == nil {
		return
	}
	g.cancel()
	g.cancel = nil
	select {
	case err := <-g.ended:
		if err != nil {
			g.tb.Errorf("gateway ended with: %v", err)
		}
	case <-time.After(Wait):
		g.tb.Fatal("gateway does not end")
	}
}

// Endpoint is where it serves.
func (g *Gateway) Endpoint() gateway.Endpoint {
	return gateway.Endpoint{Host: g.Ready.Host, Port: g.Ready.Port}
}

// Client dials with the client certificate.
func (g *Gateway) Client() gateway.Client {
	g.tb.Helper()
	c, err := client.Dial(context.Background(), g.Endpoint(), g.Config.Material.ClientConfig(bundle.LocalName))
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Conn is a plain connection with a TLS configuration; nil means the client
// certificate's.
func (g *Gateway) Conn(config *tls.Config) *grpc.ClientConn {
	g.tb.Helper()
	if config == nil {
		config = g.Config.Material.ClientConfig(bundle.LocalName)
	}
	c, err := grpc.NewClient("passthrough:///"+Address(g.Ready), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = c.Close() })
	return c
}

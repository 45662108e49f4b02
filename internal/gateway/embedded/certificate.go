package embedded

import (
	"bytes"
	"context"
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/state"
)

// certificate is the server certificate that a running daemon presents. A renewed
// one on disk is taken at the next handshake, so that nobody is disconnected for
// it; connections that stand go on with the old one.
type certificate struct {
	gateway state.Gateway
	path    string // of the file that is written last
	log     *slog.Logger

	mu      sync.Mutex
	own     bundle.Material // what the daemon was started with
	serving *tls.Certificate
	failing bool        // the last look failed, which was logged
	seen    fs.FileInfo // of the file that was read last; nil before the first look
}

func newCertificate(g state.Gateway, own bundle.Material, log *slog.Logger) *certificate {
	return &certificate{gateway: g, log: log, own: own, serving: &own.Server,
		path: filepath.Join(g.File(state.TLSDir), state.ServerDir, state.TLSCertFile)}
}

// current is asked at each handshake; while nothing changed it costs one stat.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := os.Stat(c.path)
	// Gone is a write that is not finished, or somebody's mistake: the one in
	// memory is as good as it was.
	if err != nil || c.seen != nil && os.SameFile(now, c.seen) && now.ModTime().Equal(c.seen.ModTime()) {
		return c.serving
	}
	ctx, cancel := budget.Context(context.Background(), budget.Probe, "read the renewed server certificate")
	defer cancel()
	m, err := loadMaterial(ctx, c.gateway)
	failed := c.failing
	c.failing = err != nil
	switch {
	case err != nil && failed:
		return c.serving
	case err != nil:
		// A write may be under way: the next handshake looks again.
		c.log.Warn("the server certificate on disk cannot be used; the earlier one is served on", "error", credential.Redact(err.Error()))
		return c.serving
	case !bytes.Equal(m.CAPEM, c.own.CAPEM):
		// Clients' certificates are verified against the authority that the daemon
		// was started with; a set of another one needs a restart.
		c.log.Warn("the bootstrap secrets on disk have another authority; they are taken at the next start")
	case !m.Server.Leaf.Equal(c.serving.Leaf):
		c.serving = &m.Server
		c.log.Info("took the renewed server certificate", "until", m.Server.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.seen = now
	return c.serving
}

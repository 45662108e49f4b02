// Package sshd is the way into a sandbox: an SSH server on connections that the
// gateway has already authenticated, so that it asks for no credential itself.
// Everything it starts or dials is inside the sandbox's confinement.
package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

	"creel/internal/supervisor/box"
)

// maxChannels bounds the channels of one connection.
const maxChannels = 256

// Config is what a server needs.
type Config struct {
	Box box.Box
	// Env is the environment of what is started, NAME=VALUE.
	Env []string
	// Shell is the path of the shell that sessions get.
	Shell string
	// SFTP is the path of the sftp server's program; empty refuses the subsystem.
	SFTP string
	Log  *slog.Logger
}

// Server serves any number of connections.
type Server struct {
	cfg Config
	ssh *ssh.ServerConfig
}

// New makes a server with a host key of its own that is nowhere written down.
func New(cfg Config) (*Server, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	s := &Server{cfg: cfg, ssh: &ssh.ServerConfig{
		NoClientAuth: true,
		// Clients that insist on a key of theirs get in as well.
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
		ServerVersion:     "SSH-2.0-Creel",
	}}
	s.ssh.AddHostKey(signer)
	return s, nil
}

// Serve serves one connection until it or ctx ends, and returns when everything
// that it started has ended. It closes c.
func (s *Server) Serve(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	connection, channels, requests, err := ssh.NewServerConn(c, s.ssh)
	if err != nil {
		_ = c.Close()
		if err != io.EOF && ctx.Err() == nil {
			s.cfg.Log.Warn("ssh handshake", slog.Any("error", err))
		}
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel() // before the wait: what still runs is told that the client is gone
	defer func() { _ = connection.Close() }()
	all.Go(func() { ssh.DiscardRequests(requests) })
	slots := make(chan struct{}, maxChannels)
	for channel := range channels {
		select {
		case slots <- struct{}{}:
		default:
			_ = channel.Reject(ssh.ResourceShortage, "too many channels")
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			s.channel(ctx, channel)
		})
	}
}

func (s *Server) channel(ctx context.Context, n ssh.NewChannel) {
	switch n.ChannelType() {
	case ExecChannel:
		s.exec(ctx, n)
	case "session":
		s.session(ctx, n)
	case "direct-tcpip":
		s.direct(ctx, n)
	default:
		_ = n.Reject(ssh.UnknownChannelType, "unknown channel type")
	}
}

package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/server/relay"
	"creel/internal/server/store"
)

// Limits of SSH sessions (API notes, §2.4).
const (
	sessionLife           = 24 * time.Hour
	connectionsPerSession = 3
	sessionsPerSandbox    = 20
	forwardChunk          = 64 << 10
)

func sessionName(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func (s *openShell) CreateSshSession(ctx context.Context, r *openshellv1.CreateSshSessionRequest) (*openshellv1.CreateSshSessionResponse, error) {
	if err := s.d.running(ctx, r.GetSandboxId()); err != nil {
		return nil, err
	}
	sessions, err := s.d.sessionsOf(ctx, r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	now := s.d.cfg.Now()
	live := 0
	for _, o := range sessions {
		if o.Value.ExpiresAt.After(now) {
			live++
		} else if _, err := s.d.store.Sessions.Delete(ctx, o.ID); err != nil {
			return nil, err
		}
	}
	if live >= sessionsPerSandbox {
		return nil, status.Errorf(codes.ResourceExhausted, "%d sessions of this sandbox are valid, no more are allowed", live)
	}
	token := uuid.NewString()
	expires := now.Add(sessionLife).UTC()
	if _, err := s.d.store.Sessions.Create(ctx, store.Object[store.Session]{ID: uuid.NewString(), Name: sessionName(token),
		Value: store.Session{SandboxID: r.GetSandboxId(), ExpiresAt: expires}}); err != nil {
		return nil, err
	}
	return &openshellv1.CreateSshSessionResponse{SandboxId: r.GetSandboxId(), Token: token, GatewayHost: Host,
		GatewayPort: uint32(s.d.port), GatewayScheme: "https", ExpiresAtMs: expires.UnixMilli()}, nil
}

func (d *daemon) sessionsOf(ctx context.Context, sandboxID string) ([]store.Object[store.Session], error) {
	all, err := d.store.Sessions.List(ctx, store.Query{All: true})
	if err != nil {
		return nil, err
	}
	var own []store.Object[store.Session]
	for _, o := range all {
		if o.Value.SandboxID == sandboxID {
			own = append(own, o)
		}
	}
	return own, nil
}

// revokeSessions removes what permitted to reach into a sandbox that is gone.
func (d *daemon) revokeSessions(sandboxID string) {
	ctx := context.WithoutCancel(d.ctx)
	own, err := d.sessionsOf(ctx, sandboxID)
	for _, o := range own {
		if _, e := d.store.Sessions.Delete(ctx, o.ID); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		d.log.Warn("revoke sessions of a deleted sandbox", slog.String("sandbox", sandboxID), slog.Any("error", err))
	}
}

func (s *openShell) RevokeSshSession(ctx context.Context, r *openshellv1.RevokeSshSessionRequest) (*openshellv1.RevokeSshSessionResponse, error) {
	o, err := s.d.store.Sessions.Get(ctx, "", sessionName(r.GetToken()))
	if errors.Is(err, store.ErrNotFound) {
		return &openshellv1.RevokeSshSessionResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	revoked, err := s.d.store.Sessions.Delete(ctx, o.ID)
	return &openshellv1.RevokeSshSessionResponse{Revoked: revoked}, err
}

// sessionCounter counts the open connections of each session.
type sessionCounter struct {
	mu   sync.Mutex
	open map[string]int
}

func (c *sessionCounter) enter(session string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[session] >= connectionsPerSession {
		return false
	}
	c.open[session]++
	return true
}

func (c *sessionCounter) leave(session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[session]--; c.open[session] == 0 {
		delete(c.open, session)
	}
}

func (s *openShell) ForwardTcp(stream grpc.BidiStreamingServer[openshellv1.TcpForwardFrame, openshellv1.TcpForwardFrame]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return status.Error(codes.InvalidArgument, "the first frame is init")
	}
	session, err := s.d.store.Sessions.Get(ctx, "", sessionName(init.GetAuthorizationToken()))
	if errors.Is(err, store.ErrNotFound) || err == nil &&
		(session.Value.SandboxID != init.GetSandboxId() || !session.Value.ExpiresAt.After(s.d.cfg.Now())) {
		return status.Error(codes.Unauthenticated, "no valid session for this sandbox")
	}
	if err != nil {
		return err
	}
	target := relay.Target{SSH: true}
	if t := init.GetTcp(); t != nil {
		if target, err = portTarget(t); err != nil {
			return invalid(err)
		}
	}
	if !s.d.tunnels.enter(session.ID) {
		return status.Errorf(codes.ResourceExhausted, "%d connections of this session are open, no more are allowed", connectionsPerSession)
	}
	defer s.d.tunnels.leave(session.ID)
	if err := s.d.running(ctx, init.GetSandboxId()); err != nil {
		return err
	}
	inside, err := s.d.hub.Open(ctx, init.GetSandboxId(), target)
	if err != nil {
		return err
	}
	defer inside.Close()
	go func() { // ends with the stream, which ends when this handler returns
		for {
			frame, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				if half, ok := inside.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
					return
				}
			}
			if err != nil {
				_ = inside.Close()
				return
			}
			if _, err := inside.Write(frame.GetData()); err != nil {
				_ = inside.Close()
				return
			}
		}
	}()
	buffer := make([]byte, forwardChunk)
	for {
		n, err := inside.Read(buffer)
		if n > 0 {
			data := append([]byte(nil), buffer[:n]...)
			if err := stream.Send(&openshellv1.TcpForwardFrame{Payload: &openshellv1.TcpForwardFrame_Data{Data: data}}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) { // the end of the stream is the only way to say it
			return nil
		}
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
)

// maxMessage bounds one message: an exec with the largest standard input that
// OpenShell's client buffers.
const maxMessage = 16 << 20

// window is how much a client may send on one stream before it was read, in bytes.
const window = 256 << 10

// Run binds, opens the store, starts everything, calls ready once, serves until
// ctx ends, then drains within the budget gateway-stop and returns when all of it
// has ended. Sandboxes go on. The error is nil after an ordinary end.
func Run(ctx context.Context, cfg Config, ready func(Ready)) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	// The database is judged before anything is bound or made.
	running, stop := context.WithCancel(ctx)
	defer stop()
	d, err := openDaemon(running, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	api, err := listenAPI(ctx, cfg.Port, cfg.PortExplicit)
	if err != nil {
		return err
	}
	d.port = api.Addr().(*net.TCPAddr).Port
	socket, err := listenSocket(ctx, cfg.Gateway.Socket())
	if err != nil {
		return errors.Join(err, api.Close())
	}
	relays, err := listenSocket(ctx, cfg.Gateway.RelaySocket())
	if err != nil {
		return errors.Join(err, api.Close(), socket.Close())
	}
	if d.port != cfg.Port {
		cfg.Log.Info("wanted port is taken", slog.Int("wanted", cfg.Port), slog.Int("port", d.port))
	}
	servers := []*grpc.Server{
		d.newServer(credentials.NewTLS(cfg.tls())),
		d.newServer(peerCredentials{uid: uint32(os.Geteuid())}),
	}
	if err := d.load(running); err != nil {
		stop()
		d.stop()
		return errors.Join(fmt.Errorf("take over sandboxes: %w", err), api.Close(), socket.Close(), relays.Close())
	}
	d.work.Go(func() { d.takeConnections(running, relays.(*net.UnixListener)) })
	ended := make(chan error, len(servers))
	for i, l := range []net.Listener{api, socket} {
		go func() { ended <- servers[i].Serve(l) }()
	}
	d.reunion(running)
	ready(Ready{InstanceID: d.instance, PID: d.pid(), Host: Host, Port: d.port})
	cfg.Log.Info("gateway serves", slog.Int("port", d.port), slog.String("instance", d.instance))

	pending := len(servers)
	select {
	case <-ctx.Done():
	case err = <-ended: // a listener that fails takes the daemon down: half a gateway helps nobody
		pending--
		err = fmt.Errorf("serve: %w", err)
	}
	stop()
	drain(servers, d)
	for range pending {
		<-ended
	}
	return err
}

// drain lets unary calls finish, ends streams, and waits for everything.
func drain(servers []*grpc.Server, d *daemon) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range servers {
			s.GracefulStop()
		}
	}()
	d.hub.Close() // sessions, and with them relays, end; long streams watch the daemon's own context
	d.runner.Close()
	timer := time.NewTimer(drainTime())
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		for _, s := range servers {
			s.Stop()
		}
		<-done
	}
	d.stop()
}

// drainTime leaves time to end before the launcher kills.
func drainTime() time.Duration { return budget.Of(budget.GatewayStop) / 4 }

func (d *daemon) newServer(creds credentials.TransportCredentials) *grpc.Server {
	g := gate{table: authTable(), cfg: d.cfg}
	s := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(maxMessage), grpc.WaitForHandlers(true),
		// Fixed: a window that grows is memory of the gateway for what is not read.
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(4*window),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepAliveMinimum, PermitWithoutStream: true}))
	openshellv1.RegisterOpenShellServer(s, &openShell{d: d})
	inferencev1.RegisterInferenceServer(s, &inferenceService{d: d})
	creelv1.RegisterCreelServer(s, &creelService{d: d})
	creelv1.RegisterSupervisorServer(s, &supervisorService{d: d})
	return s
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/host"
	"creel/internal/state"
)

// portSpan is how many ports above the wanted one are tried.
const portSpan = 100

// listenAPI binds the API's listener: the wanted port, else the next free one,
// else any. It asks by binding, so what it returns is held.
func listenAPI(ctx context.Context, port int, explicit bool) (net.Listener, error) {
	var lc net.ListenConfig
	last := min(port+portSpan-1, 65535)
	if explicit {
		last = port
	}
	for p := port; p <= last; p++ {
		l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort(Host, strconv.Itoa(p)))
		if err == nil {
			return l, nil
		}
		// A low port may be forbidden rather than taken: then another one does too.
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("listen on port %d: %w", p, err)
		}
		if explicit {
			return nil, advisory.New("port-in-use", fmt.Sprintf("listen on port %d%s", p, heldBy(p)), err)
		}
	}
	l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort(Host, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen on any port: %w", err)
	}
	return l, nil
}

func heldBy(port int) string {
	if holder, ok := host.PortHolder(port); ok {
		return " (held by " + holder.String() + ")"
	}
	return ""
}

// listenSocket binds the Unix socket for supervisors. A socket file on which
// somebody answers is never replaced.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := state.CheckSocketPath(path); err != nil {
		return nil, advisory.New("socket-path-too-long", "listen for supervisors", err)
	}
	dir := filepath.Dir(path)
	if err := state.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	if err := os.Chmod(dir, state.DirMode); err != nil {
		return nil, fmt.Errorf("protect socket directory: %w", err)
	}
	if err := clearSocket(ctx, path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for supervisors: %w", err)
	}
	if err := os.Chmod(path, state.FileMode); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), l.Close())
	}
	return l, nil
}

func clearSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return advisory.New("gateway-socket-taken", path+" exists and is not a socket", nil)
	}
	c, err := (&net.Dialer{Timeout: budget.Of(budget.TCP)}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return advisory.New("gateway-socket-taken", "a process answers on "+path, nil)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // only a refusal proves that nobody listens
		return advisory.New("gateway-socket-taken", "whether a process answers on "+path+" could not be asked", err)
	}
	return state.RemoveIfExists(path)
}

// keepAliveMinimum lets OpenShell clients ping every 10 s.
const keepAliveMinimum = 5 * time.Second

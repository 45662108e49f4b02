package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/gateway"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
	"creel/test/require"
)

// stranger is a user id that is neither root's nor anybody's who runs tests.
const stranger = 65533

// connectAs connects to a Unix socket as another user. User ids belong to threads:
// only this one becomes somebody else, and it ends with its goroutine.
func connectAs(uid int, socket string) (net.Conn, error) {
	type connected struct {
		conn net.Conn
		err  error
	}
	done := make(chan connected)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		var c connected
		defer func() { done <- c }()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			c.err = fmt.Errorf("become user %d: %w", uid, errno)
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			c.err = err
			return
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		if c.err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); c.err == nil {
			c.conn, c.err = net.FileConn(file)
		}
	}()
	c := <-done
	return c.conn, c.err
}

// listenAs listens on a port of loopback as another user; see connectAs.
func listenAs(t *testing.T, uid, port int) {
	t.Helper()
	type listening struct {
		file *os.File
		err  error
	}
	done := make(chan listening)
	go func() {
		runtime.LockOSThread()
		var l listening
		defer func() { done <- l }()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			l.err = fmt.Errorf("become user %d: %w", uid, errno)
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.err = err
			return
		}
		l.file = os.NewFile(uintptr(fd), "listener")
		l.err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 8))
	}()
	l := <-done
	if l.file != nil {
		t.Cleanup(func() { _ = l.file.Close() })
	}
	if l.err != nil {
		t.Fatal(l.err)
	}
}

// A port that another user took while the gateway was down is told of until the
// token is a new one: an open page may have shown the old one there.
func TestPortLostToAStranger(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: only root can act as two users")
	for name, explicit := range map[string]bool{"a free port": false, "a named port": true} {
		t.Run(name, func(t *testing.T) {
			g := servertest.Start(t)
			spec := sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"}, Dashboard: sandbox.Dashboard{TargetPort: 4000}}
			if explicit {
				spec.Dashboard.Port, spec.Dashboard.PortExplicit = unoccupied(t), true
			}
			ready(t, g.Client(), "demo", spec)
			port := dashboard(t, g.Client(), "demo").Forward.Port
			g.Stop()
			g.Run()
			if d := inspected(t, g.Client(), "demo").Dashboard; d.LostPort != 0 {
				t.Fatalf("lost %d to %q before anybody took it", d.LostPort, d.LostTo)
			}
			g.Stop()
			listenAs(t, stranger, port)
			g.Run()
			d := inspected(t, g.Client(), "demo").Dashboard
			if d.LostPort != port || d.LostTo == "" || d.Bound == explicit {
				t.Fatalf("lost %d to %q, want %d; bound: %v", d.LostPort, d.LostTo, port, d.Bound)
			}
			g.Stop()
			g.Run()
			if d := inspected(t, g.Client(), "demo").Dashboard; d.LostPort != port {
				t.Error("forgotten after another restart")
			}
			if _, err := g.Client().(gateway.Updater).RotateDashboardToken(within(t), "demo"); err != nil {
				t.Fatal(err)
			}
			if d := inspected(t, g.Client(), "demo").Dashboard; d.LostPort != 0 && !explicit {
				t.Error("still told of after a new token")
			}
		})
	}
}

// healthAs asks for health, which anybody may ask, over the Unix socket.
func healthAs(t *testing.T, uid int, socket string) error {
	t.Helper()
	c, err := connectAs(uid, socket)
	if err != nil {
		return err
	}
	used := false
	conn, err := grpc.NewClient("passthrough:///gateway", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used {
				return nil, errors.New("there is only one connection")
			}
			used = true
			return c, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = openshellv1.NewOpenShellClient(conn).Health(within(t), &openshellv1.HealthRequest{})
	return err
}

// The modes of the socket and its directory keep other users out. Where they do not, as after a chmod or
// with a descriptor that was passed on, the kernel's word on who connected does.
func TestSocketRefusesStrangers(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: only root can act as two users")
	g := servertest.Start(t)
	socket := g.Config.Gateway.Socket()
	open := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for dir := filepath.Dir(filepath.Dir(socket)); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		open(dir, 0o755)
	}
	for _, lock := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Dir(socket), 0o755}, {socket, 0o666}} {
		if _, err := connectAs(stranger, socket); !errors.Is(err, unix.EACCES) {
			t.Errorf("another user connects past %s: %v, want EACCES", lock.path, err)
		}
		open(lock.path, lock.mode)
	}
	if err := healthAs(t, 0, socket); err != nil {
		t.Fatalf("its own user is refused: %v", err)
	}
	if err := healthAs(t, stranger, socket); status.Code(err) != codes.Unavailable {
		t.Errorf("another user is answered: %v, want that the connection ends", err)
	}
}

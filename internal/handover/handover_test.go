package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/credential"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-token"

// pair is both ends of a TCP connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = n.Close(), f.Close() })
	return n.(*net.TCPConn), f.(*net.TCPConn)
}

// gateway listens, and serves one connection with serve.
func gateway(t *testing.T, serve func(*net.UnixConn)) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "creel")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		serve(c.(*net.UnixConn))
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return socket
}

func TestConnectionOutlivesItsSender(t *testing.T) {
	near, far := pair(t)
	type received struct {
		offer Offer
		conn  *net.TCPConn
		err   error
	}
	got := make(chan received, 1)
	socket := gateway(t, func(u *net.UnixConn) {
		var r received
		r.offer, r.conn, r.err = Receive(u)
		got <- r
		_ = Answer(u, r.err)
	})
	if err := Send(t.Context(), socket, Offer{Channel: "c1", Token: credential.NewSecret(canary)}, near); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	r := <-got
	if r.err != nil || r.offer.Channel != "c1" || r.offer.Token.Reveal() != canary {
		t.Fatalf("received %+v", r)
	}
	defer r.conn.Close()
	if _, err := r.conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(far); err != nil || string(all) != "ping" {
		t.Errorf("%q %v", all, err)
	}
	if _, err := far.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if all, err := io.ReadAll(r.conn); err != nil || string(all) != "pong" {
		t.Errorf("%q %v", all, err)
	}
}

func TestRefused(t *testing.T) {
	near, far := pair(t)
	socket := gateway(t, func(u *net.UnixConn) {
		if _, c, err := Receive(u); err == nil {
			_ = c.Close()
		}
		_ = Answer(u, errors.New("nobody waits"))
	})
	err := Send(t.Context(), socket, Offer{Token: credential.NewSecret(canary)}, near)
	var refused *Refused
	if !errors.As(err, &refused) || refused.Reason != "nobody waits" || strings.Contains(err.Error(), canary) {
		t.Errorf("refused with %v", err)
	}
	// It is still the sender's.
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	near, _ := pair(t)
	if err := Send(t.Context(), filepath.Join(t.TempDir(), "none"), Offer{}, near); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a socket: %v", err)
	}
	left := gateway(t, func(*net.UnixConn) {}) // hangs up
	if err := Send(t.Context(), left, Offer{}, near); err == nil {
		t.Error("taken by somebody who hung up")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	mute := gateway(t, func(u *net.UnixConn) {
		_, c, err := Receive(u)
		if err == nil {
			defer c.Close()
		}
		cancel(why)
		_, _ = u.Read(make([]byte, 1))
	})
	if err := Send(ctx, mute, Offer{}, near); !errors.Is(err, why) {
		t.Errorf("no answer: %v", err)
	}
}

// What a sender may get wrong, or mean ill, is refused, and leaves no descriptor.
func TestBadOffers(t *testing.T) {
	near, _ := pair(t)
	file, err := near.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	listening, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	fd := func(files ...*os.File) (fds []int) {
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		return fds
	}
	line := `{"channel":"c","token":"` + canary + `"}` + "\n"
	for name, c := range map[string]struct {
		line string
		fds  []int
	}{
		"no descriptor":        {line, nil},
		"two descriptors":      {line, fd(file, file)},
		"many descriptors":     {line, fd(file, file, file, file, file, file, file, file)},
		"a pipe":               {line, fd(read)},
		"a listener":           {line, fd(listening)},
		"no JSON":              {canary + "\n", fd(file)},
		"no end":               {`{"channel":`, fd(file)},
		"a line without limit": {strings.Repeat(canary, maxLine/len(canary)+1), fd(file)},
		"nothing":              {"", nil},
	} {
		before := descriptorsOpen(t)
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			socket := gateway(t, func(u *net.UnixConn) {
				_, c, err := Receive(u)
				if err == nil {
					_ = c.Close()
				}
				got <- err
			})
			s, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			if c.line != "" {
				if _, _, err := s.(*net.UnixConn).WriteMsgUnix([]byte(c.line), rights(c.fds), nil); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.(*net.UnixConn).CloseWrite()
			if err := <-got; err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("received with %v", err)
			}
			_ = s.Close()
		})
		if after := descriptorsOpen(t); after != before {
			t.Errorf("%s: %d descriptors are open, %d were", name, after, before)
		}
	}
}

func rights(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return syscall.UnixRights(fds...)
}

func descriptorsOpen(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"10.0.0.1": false, "0.0.0.0": false, "fe80::1": false, "::ffff:192.0.2.1": false} {
		if got := loopback(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

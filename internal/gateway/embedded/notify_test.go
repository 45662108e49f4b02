package embedded

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/gateway/evidence"
	"creel/internal/health"
	"creel/internal/state"
)

// notifications is a service manager's end of sd_notify(3).
type notifications struct {
	t    *testing.T
	conn *net.UnixConn
}

// serviceManager makes this process one that a service manager started.
func serviceManager(t *testing.T, w *world) *notifications {
	t.Helper()
	socket := filepath.Join(w.home, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return &notifications{t: t, conn: conn}
}

// next is one message; "" when none comes within the time.
func (n *notifications) next(within time.Duration) string {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		n.t.Fatal(err)
	}
	b := make([]byte, 4096)
	k, err := n.conn.Read(b)
	if err != nil && !os.IsTimeout(err) {
		n.t.Fatal(err)
	}
	return string(b[:k])
}

// expect reads until a message begins so.
func (n *notifications) expect(prefix string) string {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if said := n.next(time.Until(deadline)); strings.HasPrefix(said, prefix) {
			return said
		}
	}
	n.t.Fatalf("the service manager was never told %q", prefix)
	return ""
}

// A daemon says that it is ready when it answers, not when it means to: each of
// these says to its launcher that it serves, and does not answer as a gateway must.
func TestReadyOnlyWhenItAnswers(t *testing.T) {
	for _, mode := range []string{"hung", "unhealthy", "no-health", "not-ours", "open"} {
		t.Run(mode, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_PROBE", "200ms")
			w := newWorld(t, mode)
			notified := serviceManager(t, w)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				done <- Serve(ctx, ServeConfig{Gateway: w.g, Server: fakeServer(mode), Foreground: io.Discard})
			}()
			for range 3 { // that it does not answer is said, again and again
				notified.expect("STATUS=does not answer itself yet: ")
			}
			cancel()
			for said := ""; !strings.HasPrefix(said, "STOPPING=1"); {
				if said = notified.next(10 * time.Second); said == "" || strings.Contains(said, "READY=1") {
					t.Fatalf("said %q", said)
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The watchdog is fed by a daemon that answers, and starves when it does not.
func TestWatchdog(t *testing.T) {
	w := newWorld(t, "good")
	notified := serviceManager(t, w)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((300*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ServeConfig{Gateway: w.g, Server: fakeServer("good"), Foreground: io.Discard})
	}()
	for range 2 {
		if said := notified.expect("WATCHDOG=1\n"); !strings.Contains(said, "STATUS=serves https://127.0.0.1:") {
			t.Errorf("said %q", said)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A daemon whose certificates have ended works on: it is ready and fed, with a word
// about it. When they are renewed it sees that, and the client's with the server's.
func TestWatchdogOutlivesCertificates(t *testing.T) {
	w := newWorld(t, "good")
	if err := os.RemoveAll(w.g.File(state.TLSDir)); err != nil {
		t.Fatal(err)
	}
	repair := func(at time.Time) {
		t.Helper()
		if _, err := bundle.Repair(t.Context(), dirstore.New(w.g).Target(), at, bundle.RepairOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	repair(time.Now().Add(-3 * 365 * 24 * time.Hour))
	notified := serviceManager(t, w)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((300*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ServeConfig{Gateway: w.g, Server: fakeServer("good"), Foreground: io.Discard})
	}()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	defer func() { _ = stop() }() // also where the test fails: the daemon is this process
	for _, prefix := range []string{"READY=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n"} {
		if said := notified.expect(prefix); !strings.Contains(said, "lets nobody in: the server certificate ended ") {
			t.Errorf("said %q", said)
		}
	}
	repair(time.Now())
	for said, deadline := "certificate ended", time.Now().Add(10*time.Second); strings.Contains(said, "certificate ended"); {
		if said = notified.expect("WATCHDOG=1\n"); time.Now().After(deadline) {
			t.Fatalf("renewed: said %q", said)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// With a clock of its own: three signs of life in the time that the manager waits,
// none while the daemon does not answer, and again when it does.
func TestWatchdogStarves(t *testing.T) {
	w := newWorld(t, "good")
	notified := serviceManager(t, w)
	signs, starved := 0, false
	read := make(chan struct{})
	go func() { // the socket holds only a few
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := notified.conn.Read(b)
			if err != nil {
				t.Error(err)
				return
			}
			switch said := string(b[:n]); {
			case said == "that is all":
				return
			case strings.HasPrefix(said, "WATCHDOG=1\n"):
				signs++
			case strings.HasPrefix(said, "STATUS=does not answer itself: it hangs"):
				starved = true
			case !strings.HasPrefix(said, "READY=1\n"):
				t.Errorf("said %q", said)
			}
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		var answers atomic.Int32 // a health.Verdict
		answers.Store(int32(health.OK))
		h := &herald{managed: true, watchdog: time.Minute, log: slog.New(slog.DiscardHandler),
			ask: func(context.Context, endpoint, string) sign {
				return sign{Chain: evidence.Chain{Verdict: health.Verdict(answers.Load()), Message: "it hangs"}}
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.vouch(ctx, endpoint{Host: "127.0.0.1", Port: 1}, "id")
		}()
		synctest.Wait()
		for _, v := range []health.Verdict{health.OK, health.Unknown, health.Failed, health.OK} {
			answers.Store(int32(v))
			time.Sleep(time.Minute + time.Second) // of the test's own clock
			synctest.Wait()
		}
		cancel()
		<-done
	})
	(&herald{managed: true, log: slog.New(slog.DiscardHandler)}).say("that is all")
	<-read
	if signs != 6 || !starved {
		t.Errorf("%d signs of life in two minutes of health, want 6; starved is %v", signs, starved)
	}
}

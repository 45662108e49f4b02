package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"creel/test/require"
)

// What a forward has to hold against a plain TCP relay in the same run.
const (
	leastThroughput = 0.5                    // of the relay's
	mostLatency     = 300 * time.Microsecond // more than without anything between, at the median
)

// paths are three ways to the same program: straight, through socat and through a
// forward.
type paths struct{ direct, relay, forward int }

func newPaths(t testing.TB) paths {
	t.Helper()
	socat, err := exec.LookPath("socat")
	require.Feature(t, "socat", err == nil, "install Debian's package socat")
	program, err := trafficProgram()
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	h.must(0, "onboard", "--yes", "--non-interactive", "--provider", "none")
	h.installTraffic()
	h.traffic(inside)
	file := filepath.Join(t.TempDir(), "traffic")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	direct, err := strconv.Atoi(serves(t, exec.Command(file, "0")))
	if err != nil {
		t.Fatal(err)
	}
	relay := freePort(t)
	cmd := exec.Command(socat, fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,fork,reuseaddr", relay), fmt.Sprintf("TCP:127.0.0.1:%d", direct))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := paths{direct: direct, relay: relay, forward: h.forwardStart("claw", fmt.Sprint(":", inside))}
	eventually(t, "socat listens", func() bool { return echoed(p.relay) == nil })
	return p
}

// speeds are the best of some rounds in which the paths take turns, so that what
// else the machine does hits all of them.
type speeds struct {
	up, down map[string]float64       // bytes a second
	echo     map[string]time.Duration // there and back, median of a round
}

func (p paths) measure(t testing.TB, rounds int) speeds {
	const bytes, echoes = 192 << 20, 500
	s := speeds{up: map[string]float64{}, down: map[string]float64{}, echo: map[string]time.Duration{}}
	for range rounds {
		for name, port := range map[string]int{"direct": p.direct, "socat": p.relay, "forward": p.forward} {
			began := time.Now()
			if n := swallowed(t, port, bytes); n != bytes {
				t.Fatalf("%s: %d of %d bytes arrived", name, n, bytes)
			}
			s.up[name] = max(s.up[name], bytes/time.Since(began).Seconds())
			began = time.Now()
			if n := fetched(t, port, bytes); n != bytes {
				t.Fatalf("%s: %d of %d bytes came", name, n, bytes)
			}
			s.down[name] = max(s.down[name], bytes/time.Since(began).Seconds())
			if took := thereAndBack(t, port, echoes); s.echo[name] == 0 || took < s.echo[name] {
				s.echo[name] = took
			}
		}
	}
	return s
}

// thereAndBack is the median time that 64 bytes need to the program and back.
func thereAndBack(t testing.TB, port, times int) time.Duration {
	t.Helper()
	c := dialled(t, port)
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("E")); err != nil {
		t.Fatal(err)
	}
	all, b := make([]time.Duration, times), make([]byte, 64)
	for i := range all {
		began := time.Now()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		all[i] = time.Since(began)
	}
	slices.Sort(all)
	return all[times/2]
}

// testForwardSpeed: a forward costs no more than a plain relay may.
func testForwardSpeed(t *testing.T) {
	p := newPaths(t)
	var s speeds
	for attempt := range 3 { // a busy machine gets another chance, a slow forward would use all
		s = p.measure(t, 2+attempt)
		if s.up["forward"] >= leastThroughput*s.up["socat"] && s.down["forward"] >= leastThroughput*s.down["socat"] && s.echo["forward"]-s.echo["direct"] <= mostLatency {
			break
		}
	}
	for what, of := range map[string]map[string]float64{"up": s.up, "down": s.down} {
		t.Logf("%s: %.0f MB/s, socat %.0f MB/s", what, of["forward"]/1e6, of["socat"]/1e6)
		if of["forward"] < leastThroughput*of["socat"] {
			t.Errorf("%s: %.2f of socat's throughput", what, of["forward"]/of["socat"])
		}
	}
	t.Logf("there and back: %s, socat %s, direct %s", s.echo["forward"], s.echo["socat"], s.echo["direct"])
	if added := s.echo["forward"] - s.echo["direct"]; added > mostLatency {
		t.Errorf("there and back takes %s longer than without a forward", added)
	}
	t.Run("page", func(t *testing.T) { testPageLoad(t, p) })
}

// testPageLoad: over a wire of some length, a page with its parts takes at most one
// round trip longer than without a forward.
func testPageLoad(t *testing.T, p paths) {
	const trip = 40 * time.Millisecond
	direct, forward := time.Hour, time.Hour
	for range 5 {
		direct = min(direct, loaded(t, wire(t, p.direct, trip)))
		forward = min(forward, loaded(t, wire(t, p.forward, trip)))
	}
	t.Logf("a page takes %s, %s without a forward", forward, direct)
	if direct < 4*trip {
		t.Errorf("a page over the wire takes %s: the wire is shorter than it should be", direct)
	}
	if forward-direct > trip {
		t.Errorf("a page takes %s, %s without a forward", forward, direct)
	}
}

// loaded is how long a page takes and then, beside each other, its parts.
func loaded(t *testing.T, port int) time.Duration {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func() {
		r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = r.Body.Close() }()
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	began := time.Now()
	get()
	var parts sync.WaitGroup
	for range 4 {
		parts.Go(get)
	}
	parts.Wait()
	return time.Since(began)
}

// wire is a port that leads to another over a wire on which a round trip takes so
// long, that of the connection itself included.
func wire(t *testing.T, to int, trip time.Duration) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = near.Close() }()
				if !elapsed(ctx, time.Now().Add(trip)) { // SYN and its answer
					return
				}
				far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
				if err != nil {
					return
				}
				defer func() { _ = far.Close() }()
				defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
				var both sync.WaitGroup
				both.Go(func() { delayed(ctx, far, near, trip/2) })
				both.Go(func() { delayed(ctx, near, far, trip/2) })
				both.Wait()
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// delayed carries what comes so much later, however much is on its way.
func delayed(ctx context.Context, to, from net.Conn, by time.Duration) {
	type piece struct {
		at time.Time
		b  []byte
	}
	pieces := make(chan piece, 1024)
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		defer close(pieces)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				pieces <- piece{time.Now().Add(by), b[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		if !elapsed(ctx, p.at) {
			break
		}
		if _, err := to.Write(p.b); err != nil {
			_ = from.Close()
		}
	}
	for range pieces { // what comes when nobody takes it any more
	}
	_ = to.(*net.TCPConn).CloseWrite()
}

// elapsed waits for a moment; false when ctx ends first.
func elapsed(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// BenchmarkForward reports what bench/README.md shows.
func BenchmarkForward(b *testing.B) {
	p := newPaths(b)
	for b.Loop() {
		s := p.measure(b, 5)
		for _, name := range []string{"forward", "socat", "direct"} {
			b.ReportMetric(s.up[name]/1e6, name+"-up-MB/s")
			b.ReportMetric(s.down[name]/1e6, name+"-down-MB/s")
			b.ReportMetric(float64(s.echo[name].Nanoseconds())/1e3, name+"-echo-µs")
		}
	}
}

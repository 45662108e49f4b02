package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inside is where a program inside listens.
const inside = 3456

// testForwards: what is forwarded is declared, and is there again whoever of those
// that keep it was ended.
func testForwards(t *testing.T) {
	h := newHome(t)
	h.must(0, "onboard", "--yes", "--non-interactive", "--provider", "none")
	h.installTraffic()
	h.traffic(inside)

	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	wanted := taken.Addr().(*net.TCPAddr).Port
	holder := fmt.Sprintf("port %d is taken by e2e.test (pid %d)", wanted, os.Getpid())
	if r := h.must(1, "forward", "start", "claw", fmt.Sprintf("%d:%d", wanted, inside)); !strings.Contains(r.stderr, holder) {
		t.Errorf("a taken port: %s", r.stderr)
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("after a port that was taken: %q", v)
	}
	_ = taken.Close()
	h.must(0, "forward", "start", "claw", fmt.Sprintf("%d:%d", wanted, inside))
	free := h.forwardStart("claw", fmt.Sprint(":", inside))
	for _, port := range []int{wanted, free} {
		if err := echoed(port); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}

	list := func() []forwardEntry {
		t.Helper()
		all := decode[forwardsDocument](t, h.must(0, "forward", "list", "--json")).Forwards
		for i := range all { // who had another port is said by the gateway that found out
			all[i].Message, all[i].Connections = "", 0
		}
		return all
	}
	before := list()
	if len(before) != 3 {
		t.Fatalf("listed: %+v", before)
	}
	same := func(when string) {
		t.Helper()
		eventually(t, "everything is ok "+when, func() bool { return h.verdict() == "ok" })
		if d := cmp.Diff(before, list()); d != "" {
			t.Errorf("%s (-before +now)\n%s", when, d)
		}
	}
	reached := func(when string) {
		t.Helper()
		for _, port := range []int{wanted, free} {
			if err := echoed(port); err != nil {
				t.Errorf("%s port %d: %v", when, port, err)
			}
		}
	}
	h.must(0, "gateway", "restart")
	same("after a restart of the gateway")
	reached("after a restart of the gateway")
	if err := syscall.Kill(h.gatewayPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.must(0, "repair", "--yes")
	same("after the end of the gateway")
	reached("after the end of the gateway")

	stuffing(t, h, free)
	many(t, h, wanted)

	end(t, h.supervisorPID())
	eventually(t, "the sandbox runs again", func() bool { return h.verdict() == "ok" })
	h.traffic(inside)
	same("after the end of the supervisor")
	reached("after the end of the supervisor")
	h.must(0, "stop", "claw")
	if f := list(); f[1].Status != "waiting" || f[2].Status != "waiting" {
		t.Errorf("of a stopped sandbox: %+v", f)
	}
	h.must(0, "start", "claw")
	h.traffic(inside)
	same("after a stop and a start")
	reached("after a stop and a start")

	// What was stopped comes back with onboard, as everything does that is wanted.
	h.must(0, "forward", "stop", "claw", fmt.Sprint(before[0].Port))
	h.must(0, "repair", "--yes")
	if f := list()[0]; f.Status != "stopped" {
		t.Errorf("repair of what was stopped on purpose: %+v", f)
	}
	h.must(0, "onboard", "--yes", "--non-interactive", "--provider", "none")
	same("after another onboard")
	h.must(0, "forward", "stop", "claw", fmt.Sprint(wanted))
	h.must(0, "forward", "stop", "claw", fmt.Sprint(free))
	if err := echoed(wanted); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped: %v", err)
	}
}

// supervisorPID is the process that keeps the sandbox claw.
func (h *home) supervisorPID() int {
	h.t.Helper()
	for _, p := range h.processes() {
		if strings.Contains(p.command, "supervise") && strings.Contains(p.command, filepath.Join(h.dir, "state")) {
			return p.pid
		}
	}
	h.t.Fatalf("no supervisor among %v", h.processes())
	return 0
}

// stuffing: programs that do not read cost the kernel's buffers, and neither the
// gateway nor the supervisor.
func stuffing(t *testing.T, h *home, port int) {
	t.Helper()
	const connections, most = 20, 32 << 20
	gateway, supervisor := h.gatewayPID(), h.supervisorPID()
	before := [2]float64{resident(t, gateway), resident(t, supervisor)}
	var all sync.WaitGroup
	for range connections {
		c := dialled(t, port)
		defer func() { _ = c.Close() }()
		all.Go(func() {
			n, chunk := 0, make([]byte, 256<<10)
			copy(chunk, "N")
			for n < most {
				_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				k, err := c.Write(chunk)
				if n += k; err != nil {
					return
				}
			}
			t.Errorf("%d bytes were taken that nobody reads", n)
		})
	}
	all.Wait()
	if err := echoed(port); err != nil {
		t.Errorf("beside connections that stand still: %v", err)
	}
	for i, now := range [2]float64{resident(t, gateway), resident(t, supervisor)} {
		if now-before[i] > 8 {
			t.Errorf("%s grew from %.1f to %.1f MiB", []string{"the gateway", "the supervisor"}[i], before[i], now)
		}
	}
}

// many connections are carried at the same time, without the supervisor.
func many(t *testing.T, h *home, port int) {
	t.Helper()
	const connections = 200
	b := make([]byte, 1)
	for range connections {
		c := dialled(t, port)
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("Ex")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range decode[forwardsDocument](t, h.must(0, "forward", "list", "claw", "--json")).Forwards {
		if f.Port == port && (f.Connections != connections || f.Refused != 0) {
			t.Errorf("%d connections are carried, %d were refused", f.Connections, f.Refused)
		}
	}
}

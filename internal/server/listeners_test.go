package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"creel/internal/dashboard/forward"
	"creel/internal/gateway"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
)

// page is a web page that says hello.
func page(t testing.TB) (port int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// occupied is a port that somebody listens on, and how to end that.
func occupied(t testing.TB) (port int, free func()) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { _ = l.Close() })
	t.Cleanup(free)
	return l.Addr().(*net.TCPAddr).Port, free
}

// unoccupied is a port that nobody listens on just now.
func unoccupied(t testing.TB) int {
	t.Helper()
	port, free := occupied(t)
	free()
	return port
}

func forwarded(t testing.TB, c gateway.Client, spec sandbox.Spec) gateway.Inspection {
	t.Helper()
	i, err := c.(gateway.Updater).UpdateForwards(within(t), "demo", spec)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func inspected(t testing.TB, c gateway.Client, name string) gateway.Inspection {
	t.Helper()
	all, err := c.Inspect(within(t), false, name)
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
	return all[0]
}

// A sandbox's forwards are there when it is, wherever it came from, and are the
// same after every restart.
func TestForwardsAreKept(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	target, named := page(t), unoccupied(t)
	// The number that is tried first is the target's own, which is taken: by the page.
	spec := sandbox.Spec{Forwards: []sandbox.Forward{{Port: named, TargetPort: target}, {TargetPort: target, Bind: "0.0.0.0"}}}
	i := ready(t, c, "demo", spec)
	before := inspected(t, c, "demo").Forwards
	if len(before) != 2 || !before[0].Bound || before[0].Port != named || before[0].Bind != "127.0.0.1" || before[0].Instead() != "" {
		t.Fatalf("forwards %+v", before)
	}
	says := fmt.Sprintf("Port %d is taken by server.test (pid %d). Using port %d instead.", target, os.Getpid(), before[1].Port)
	if !before[1].Bound || before[1].Bind != "0.0.0.0" || before[1].Instead() != says {
		t.Errorf("forward to any port: %+v, says %q", before[1], before[1].Instead())
	}
	same := func(when string, c gateway.Client) {
		t.Helper()
		now := inspected(t, c, "demo").Forwards
		if len(now) != 2 || !now[0].Bound || !now[1].Bound || now[0].Port != before[0].Port || now[1].Port != before[1].Port || now[1].Bind != "0.0.0.0" {
			t.Errorf("%s: %+v, were %+v", when, now, before)
			return
		}
		fetch(t, now[0].Port)
		fetch(t, now[1].Port)
	}
	same("at first", c)

	g.Stop()
	g.Run()
	c = g.Client()
	same("after a restart of the gateway", c)

	ended := g.Driver.Supervisor(i.ID)
	g.Driver.Die(i.ID)
	replaced(t, g, i.ID, ended)
	await(t, c, "demo")
	same("after its supervisor's end", c)

	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	for _, f := range inspected(t, c, "demo").Forwards {
		if f.Bound || f.Error != "the sandbox is stopped" || f.Port == 0 {
			t.Errorf("of a stopped sandbox: %+v", f)
		}
	}
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	await(t, c, "demo")
	same("after a start", c)

	if _, err := c.DeleteSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", f.Port), time.Second); err == nil {
			t.Errorf("port %d outlived its sandbox", f.Port)
		}
	}
}

// replaced waits until another supervisor than one that ended runs a sandbox: what is
// said of the sandbox before is of the time before its end.
func replaced(t *testing.T, g *servertest.Gateway, id string, ended *servertest.Supervisor) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if now := g.Driver.Supervisor(id); now != nil && now != ended {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("its supervisor was not replaced")
		}
	}
}

// What is forwarded changes without the sandbox, and without the connections of
// what does not change.
func TestForwardsChangeInPlace(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	target := page(t)
	echo, _ := occupied(t) // accepts into its backlog and says nothing
	spec := sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: target}, Forwards: []sandbox.Forward{{TargetPort: echo}}}
	i := ready(t, c, "demo", spec)
	starts := count(g.Driver.Calls(), "Start ")
	board := dashboard(t, c, "demo").Forward
	kept := inspected(t, c, "demo").Forwards[0]
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", kept.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	silent := func(what string) {
		t.Helper()
		_ = connection.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := connection.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s ended another's connection: %v", what, err)
		}
	}

	named := unoccupied(t)
	spec.Forwards = append(spec.Forwards, sandbox.Forward{Port: named, TargetPort: target + 1})
	now := forwarded(t, c, spec)
	if f := now.Forwards; len(f) != 2 || !f[1].Bound || f[1].Port != named || f[0].Port != kept.Port {
		t.Errorf("one more: %+v", f)
	}
	silent("one more")
	spec.Forwards[1].TargetPort = target + 2
	if f := forwarded(t, c, spec).Forwards; len(f) != 2 || !f[1].Bound || f[1].TargetPort != target+2 {
		t.Errorf("another target: %+v", f)
	}
	silent("another target")

	// The dashboard: stopped, wide on its old port, then on a named one.
	spec.Dashboard.Stopped = true
	if f := forwarded(t, c, spec).Dashboard; f.Bound || !f.Stopped || f.Reason != "" {
		t.Errorf("stopped: %+v", f)
	}
	if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", board.Port), time.Second); err == nil {
		t.Error("a stopped dashboard is reached")
	}
	g.Stop()
	g.Run()
	c = g.Client()
	if f := inspected(t, c, "demo").Dashboard; f.Bound || !f.Stopped {
		t.Errorf("stopped, after a restart: %+v", f)
	}
	spec.Dashboard.Stopped, spec.Dashboard.Bind = false, "0.0.0.0"
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Bind != "0.0.0.0" || f.Port != board.Port || !f.Exposed() {
		t.Errorf("wide: %+v, was %+v", f, board)
	}
	fetch(t, board.Port)
	spec.Dashboard.Bind, spec.Dashboard.Port, spec.Dashboard.PortExplicit = "127.0.0.1", unoccupied(t), true
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Exposed() || f.Port != spec.Dashboard.Port {
		t.Errorf("moved: %+v", f)
	}
	fetch(t, spec.Dashboard.Port)

	spec.Dashboard.Stopped = true
	if f := forwarded(t, c, spec).Dashboard; f.Bound || f.Port != spec.Dashboard.Port {
		t.Errorf("stopped on a named port: %+v", f)
	}
	spec.Forwards, spec.Dashboard.Stopped = nil, false
	if f := forwarded(t, c, spec); len(f.Forwards) != 0 || !f.Dashboard.Bound {
		t.Errorf("none any more: %+v", f.Forwards)
	}
	if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", named), time.Second); err == nil {
		t.Error("a forward that is not wanted listens")
	}
	if count(g.Driver.Calls(), "Start ") != starts || inspected(t, c, "demo").ID != i.ID {
		t.Error("the sandbox was started again")
	}
}

// A port that the dashboard would only rather have, as a public URL says, is asked
// for once; what is there stays when it is taken.
func TestDashboardOnAPortThatItWouldRatherHave(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	spec := sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: page(t)}}
	ready(t, c, "demo", spec)
	first := dashboard(t, c, "demo").Forward.Port

	taken, _ := occupied(t)
	spec.Dashboard.Port, spec.Dashboard.PublicURL = taken, fmt.Sprintf("http://box.example:%d", taken)
	says := fmt.Sprintf("Port %d is taken by server.test (pid %d). Using port %d instead.", taken, os.Getpid(), first)
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Port != first || f.Reason != "" || f.Instead() != says {
		t.Errorf("taken: %+v says %q, was on %d", f, f.Instead(), first)
	}
	fetch(t, first)

	spec.Dashboard.Port = unoccupied(t)
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Port != spec.Dashboard.Port || f.Instead() != "" {
		t.Errorf("free: %+v, want port %d", f, spec.Dashboard.Port)
	}
	fetch(t, spec.Dashboard.Port)
	// Also when it is not there to see it.
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	spec.Dashboard.Port = unoccupied(t)
	forwarded(t, c, spec)
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	await(t, c, "demo")
	fetch(t, spec.Dashboard.Port)
	// Nobody cares any more where it is: it stays.
	kept := spec.Dashboard.Port
	spec.Dashboard.Port, spec.Dashboard.PublicURL = 0, ""
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Port != kept {
		t.Errorf("anywhere: %+v, was on %d", f, kept)
	}
}

// A taken port costs nothing: what should move stays where it is, what should come
// comes when the port is free.
func TestForwardOnATakenPort(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	target := page(t)
	port, free := occupied(t)
	spec := sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: target}}
	ready(t, c, "demo", spec)
	board := dashboard(t, c, "demo").Forward
	spec.Dashboard.Port, spec.Dashboard.PortExplicit = port, true
	other, freeOther := occupied(t)
	spec.Forwards = []sandbox.Forward{{Port: other, TargetPort: target + 1}}
	i := forwarded(t, c, spec)
	says := func(p int) string { return fmt.Sprintf("port %d is taken by server.test (pid %d)", p, os.Getpid()) }
	if f := i.Dashboard; !f.Bound || f.Port != board.Port || f.Error != says(port) || f.Reason != "dashboard-port-taken" || f.WantedPort != port {
		t.Errorf("dashboard %+v", f)
	}
	if f := i.Forwards[0]; f.Bound || f.Error != says(other) || f.Reason != "forward-port-taken" || f.TakenPort != other || f.Port != other {
		t.Errorf("forward %+v", f)
	}
	if i.Phase != sandbox.Ready {
		t.Errorf("a taken port cost the sandbox: %s", i.Phase)
	}
	fetch(t, board.Port)
	free()
	freeOther()
	i = forwarded(t, c, spec) // the reconciler does it as well, every now and then
	if f := i.Dashboard; !f.Bound || f.Port != port || f.Error != "" {
		t.Errorf("dashboard on a port that is free: %+v", f)
	}
	if f := i.Forwards[0]; !f.Bound || f.Port != other || f.Error != "" {
		t.Errorf("forward on a port that is free: %+v", f)
	}
	// Its own gateway can be the holder: then it says for whom.
	ready(t, c, "second", sandbox.Spec{Forwards: []sandbox.Forward{{Port: other, TargetPort: target}}})
	if f := inspected(t, c, "second").Forwards[0]; f.Bound || !strings.HasSuffix(f.Error, ", for sandbox demo") {
		t.Errorf("taken by another sandbox: %+v", f)
	}
	// The port that it may keep can be what cannot be had another way.
	spec.Dashboard.Bind = "0.0.0.0"
	specific, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer specific.Close()
	if f := forwarded(t, c, spec).Dashboard; !f.Bound || f.Bind != "127.0.0.1" || f.Port != port || f.Reason != "dashboard-port-taken" {
		t.Errorf("a wide bind that cannot be: %+v", f)
	}
	fetch(t, port)
}

// Each sandbox gets back its own port, whichever comes first, although one that was
// tried first is free by then.
func TestPortsAreNotStolenAtTheStart(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	target := page(t)
	ports := map[string]int{}
	for _, name := range []string{"first", "a", "b", "c"} {
		ready(t, c, name, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: target}})
		ports[name] = inspected(t, c, name).Dashboard.Port
	}
	if _, err := c.DeleteSandbox(within(t), "first"); err != nil {
		t.Fatal(err)
	}
	delete(ports, "first")
	g.Stop()
	g.Run()
	c = g.Client()
	now := map[string]int{}
	for name := range ports {
		now[name] = inspected(t, c, name).Dashboard.Port
	}
	if d := cmp.Diff(ports, now); d != "" {
		t.Error(d)
	}
}

func TestForwardsThatCannotBe(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	board := sandbox.Dashboard{TargetPort: 80, Port: 5000, PortExplicit: true}
	ready(t, c, "demo", sandbox.Spec{})
	many := make([]sandbox.Forward, sandbox.MaxForwards+1)
	for i := range many {
		many[i] = sandbox.Forward{TargetPort: i + 1000}
	}
	for name, x := range map[string]struct {
		spec sandbox.Spec
		says string
	}{
		"no target":          {sandbox.Spec{Forwards: []sandbox.Forward{{Port: 5}}}, "target port 0"},
		"target":             {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 70000}}}, "70000"},
		"port":               {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 1, Port: 70000}}}, "70000"},
		"address":            {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 1, Bind: "10.0.0.1"}}}, "10.0.0.1"},
		"every IPv6 address": {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 1, Bind: "::"}}}, "::"},
		"twice":              {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 1, Port: 5}, {TargetPort: 2, Port: 5}}}, "wanted twice"},
		"anywhere twice":     {sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: 1}, {TargetPort: 1}}}, "twice"},
		"too many":           {sandbox.Spec{Forwards: many}, "at most"},
	} {
		_, err := c.(gateway.Updater).UpdateForwards(within(t), "demo", x.spec)
		if err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]sandbox.Forward{"dashboard's port": {TargetPort: 1, Port: 5000}, "dashboard's target": {TargetPort: 80}} {
		if err := sandbox.CheckForwards(board, []sandbox.Forward{f}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := c.(gateway.Updater).UpdateForwards(within(t), "none", sandbox.Spec{}); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("of a sandbox that is not: %v", err)
	}
}

// Two hundred WebSockets at the same time through one forward, with both kinds of
// supervisor; those that carry streams have fewer.
func TestManyWebSockets(t *testing.T) {
	const handed, streams = 200, 24
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))
	defer s.Close()
	target := s.Listener.Addr().(*net.TCPAddr).Port
	for name, x := range map[string]struct {
		n         int
		handsOver bool
	}{"handed over": {handed, true}, "streams": {streams, false}} {
		t.Run(name, func(t *testing.T) {
			g := servertest.New(t)
			if !x.handsOver {
				g.Driver.HandsOver = ""
			}
			g.Run()
			c := g.Client()
			ready(t, c, "demo", sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: target}}})
			port := inspected(t, c, "demo").Forwards[0].Port
			ctx, cancel := context.WithTimeout(t.Context(), servertest.Wait)
			defer cancel()
			var all sync.WaitGroup
			up, over := make(chan struct{}, x.n), make(chan struct{})
			for i := range x.n {
				all.Go(func() {
					defer func() { up <- struct{}{} }()
					w, _, err := websocket.Dial(ctx, fmt.Sprintf("ws://127.0.0.1:%d/", port), nil)
					if err != nil {
						t.Error(err)
						return
					}
					say := func(text string) {
						if err := w.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
							t.Error(err)
							return
						}
						if _, got, err := w.Read(ctx); err != nil || string(got) != text {
							t.Errorf("%q, want %q: %v", got, text, err)
						}
					}
					say(fmt.Sprint("up ", i))
					up <- struct{}{}
					<-over // all are there
					say(fmt.Sprint("still up ", i))
					_ = w.Close(websocket.StatusNormalClosure, "")
				})
			}
			for range x.n {
				<-up
			}
			if f := inspected(t, c, "demo").Forwards[0]; f.Connections != x.n || f.Refused != 0 {
				t.Errorf("%d connections, %d refused", f.Connections, f.Refused)
			}
			close(over)
			for range x.n {
				<-up
			}
			all.Wait()
		})
	}
}

// More than a forward carries are refused, and counted for people to see.
func TestForwardIsFull(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ready(t, c, "demo", sandbox.Spec{Forwards: []sandbox.Forward{{TargetPort: l.Addr().(*net.TCPAddr).Port}}})
	port := inspected(t, c, "demo").Forwards[0].Port
	for range forward.MaxConnections + 1 {
		if o, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer o.Close()
		} else if !errors.Is(err, syscall.ECONNRESET) { // the last one may be reset before it is through
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(servertest.Wait)
	for f := inspected(t, c, "demo").Forwards[0]; f.Refused == 0; f = inspected(t, c, "demo").Forwards[0] {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was refused: %+v", f)
		}
	}
}

// Forwards are changed while the gateway goes down and comes back; what it
// acknowledged last is what is there.
func TestForwardsChangeWhileTheGatewayRestarts(t *testing.T) {
	g := servertest.Start(t)
	target := page(t)
	ready(t, g.Client(), "demo", sandbox.Spec{})
	named := unoccupied(t)
	acknowledged := -1
	for range 4 {
		c := g.Client()
		stopped := make(chan struct{})
		var changing sync.WaitGroup
		changing.Go(func() {
			for n := range 1000 {
				spec := sandbox.Spec{}
				if n%2 == 1 {
					spec.Forwards = []sandbox.Forward{{Port: named, TargetPort: target}}
				}
				ctx, cancel := context.WithTimeout(context.Background(), servertest.Wait)
				_, err := c.(gateway.Updater).UpdateForwards(ctx, "demo", spec)
				cancel()
				if err != nil {
					return // the gateway is going down
				}
				acknowledged = len(spec.Forwards)
				select {
				case <-stopped:
					return
				default:
				}
			}
		})
		for deadline := time.Now().Add(servertest.Wait); inspected(t, c, "demo").Forwards == nil; { // until it is under way
			if time.Now().After(deadline) {
				t.Fatal("no change was made")
			}
		}
		g.Stop()
		close(stopped)
		changing.Wait()
		if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", named), time.Second); err == nil {
			t.Fatal("a forward outlived its gateway")
		}
		g.Run()
		// A change that came while it went down may have been made without an answer.
		now := inspected(t, g.Client(), "demo").Forwards
		for _, f := range now {
			if !f.Bound || f.Port != named {
				t.Errorf("recorded and not there: %+v", f)
			}
		}
		if len(now) == 0 {
			if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", named)); err != nil {
				t.Errorf("not recorded and there: %v", err)
			} else {
				_ = l.Close()
			}
		}
	}
	if acknowledged < 0 {
		t.Error("no change was ever made")
	}
}

// Where a sandbox had a page of its own making no other's dashboard comes up by
// itself: to a browser it would be the same site. Its own comes back there, and who
// names the port has it.
func TestPortsOfOthersPagesAreAvoided(t *testing.T) {
	g := servertest.Start(t)
	board := func(name, agent string, port int) int {
		t.Helper()
		ready(t, g.Client(), name, sandbox.Spec{Agent: agent, Dashboard: sandbox.Dashboard{TargetPort: 4000, Port: port, PortExplicit: port != 0}})
		return dashboard(t, g.Client(), name).Forward.Port
	}
	end := func(name string) {
		t.Helper()
		if _, err := g.Client().DeleteSandbox(within(t), name); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(servertest.Wait)
		for {
			list, err := g.Client().Inspect(within(t), false, name)
			if errors.Is(err, gateway.ErrNotFound) || err == nil && len(list) == 0 {
				return
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%s is not gone: %v", name, err)
			}
		}
	}
	first := board("first", "console", 0)
	end("first")
	if port := board("odd", "command", 0); port != first {
		t.Fatalf("after a console on port %d: port %d", first, port)
	}
	g.Stop()
	g.Run()
	if port := dashboard(t, g.Client(), "odd").Forward.Port; port != first {
		t.Errorf("its own page moved from port %d to %d", first, port)
	}
	end("odd")
	g.Stop()
	g.Run()
	if port := board("later", "console", 0); port == first {
		t.Errorf("another's dashboard is on port %d, where the page was", port)
	}
	if port := board("named", "console", first); port != first {
		t.Errorf("port %d was named, it is %d", first, port)
	}
}

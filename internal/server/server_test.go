package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
	"creel/internal/server"
	"creel/internal/server/servertest"
	"creel/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), servertest.Wait)
	t.Cleanup(cancel)
	return ctx
}

// ready creates a sandbox and waits until it is Ready.
func ready(t testing.TB, c gateway.Client, name string, spec sandbox.Spec) gateway.Inspection {
	t.Helper()
	created, err := c.CreateSandbox(within(t), name, spec)
	if err != nil {
		t.Fatal(err)
	}
	if created.Phase == sandbox.Ready {
		t.Errorf("the answer to create says %s, a client must see another phase first", created.Phase)
	}
	return await(t, c, name)
}

func await(t testing.TB, c gateway.Client, name string) gateway.Inspection {
	t.Helper()
	i, err := c.WaitSandbox(within(t), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if i.Phase != sandbox.Ready {
		t.Fatalf("sandbox is %s: %s", i.Phase, i.Message)
	}
	return i
}

func run(t testing.TB, c gateway.Client, id string, argv ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code, err := c.Exec(within(t), gateway.Exec{SandboxID: id, Command: argv, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	return code, stdout.String(), stderr.String()
}

func TestLifeOfASandbox(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	i := ready(t, c, "demo", sandbox.Spec{Agent: "command", Command: []string{"true"}, Restart: sandbox.RestartAlways})
	if !i.Connected || i.State.Confinement.Tier != sandbox.TierNamespaces || i.PolicyDeclared == "" {
		t.Errorf("inspection %+v", i)
	}
	if _, err := c.CreateSandbox(within(t), "demo", sandbox.Spec{}); !errors.Is(err, gateway.ErrAlreadyExists) {
		t.Errorf("second of the same name: %v", err)
	}
	code, stdout, stderr := run(t, c, i.ID, "sh", "-c", "echo out; echo err >&2; exit 3")
	if code != 3 || stdout != "out\n" || stderr != "err\n" {
		t.Errorf("exec: %d %q %q", code, stdout, stderr)
	}
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(within(t), gateway.Exec{SandboxID: i.ID, Command: []string{"true"}}); err == nil {
		t.Error("a command ran in a stopped sandbox")
	}
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	await(t, c, "demo")
	if deleted, err := c.DeleteSandbox(within(t), "demo"); err != nil || !deleted {
		t.Fatalf("delete: %v %v", deleted, err)
	}
	if deleted, err := c.DeleteSandbox(within(t), "demo"); err != nil || deleted {
		t.Errorf("second delete: %v %v", deleted, err)
	}
	if h, err := g.Driver.Handles(within(t)); err != nil || len(h) != 0 {
		t.Errorf("left over: %v %v", h, err)
	}
	if _, err := c.WaitSandbox(within(t), "demo", nil); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("a deleted sandbox: %v", err)
	}
}

func TestSupervisorThatDiedIsStartedAgain(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	i := ready(t, c, "demo", sandbox.Spec{})
	first := i.ConnectedSince
	g.Driver.Die(i.ID)
	for deadline := time.Now().Add(servertest.Wait); ; {
		now, err := c.Inspect(within(t), false, "demo")
		if err != nil {
			t.Fatal(err)
		}
		if now[0].Phase == sandbox.Ready && now[0].Connected && now[0].ConnectedSince.After(first) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not started again: %+v", now[0])
		}
	}
}

func TestGatewayRestartLeavesSandboxesAlone(t *testing.T) {
	g := servertest.Start(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer page.Close()
	target := page.Listener.Addr().(*net.TCPAddr).Port
	// Another has the port that would be tried first, and is gone when it matters.
	ready(t, g.Client(), "other", sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: target}})
	i := ready(t, g.Client(), "demo", sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: target, HealthPath: "/health"}})
	if _, err := g.Client().DeleteSandbox(within(t), "other"); err != nil {
		t.Fatal(err)
	}
	before := dashboard(t, g.Client(), "demo")
	fetch(t, before.Forward.Port)
	starts := count(g.Driver.Calls(), "Start ")
	pid := g.Driver.Supervisor(i.ID)
	g.Stop()
	alone := g.Driver.Fake.Observe(within(t), sandbox.Handle{ID: i.ID})
	if !alone.Alive {
		t.Fatal("the sandbox ended with its gateway")
	}
	if _, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", before.Forward.Port), time.Second); err == nil {
		t.Error("the dashboard's listener outlived its gateway")
	}
	g.Run()
	c := g.Client()
	if now, err := c.Inspect(within(t), false, "demo"); err != nil || now[0].Phase != sandbox.Ready {
		t.Errorf("as soon as the gateway is ready: %+v %v", now[0].Phase, err)
	}
	after := dashboard(t, c, "demo")
	if after.Forward.Port != before.Forward.Port || !after.Forward.Bound || after.Token.Reveal() != before.Token.Reveal() {
		t.Errorf("dashboard was %+v, is %+v", before.Forward, after.Forward)
	}
	fetch(t, after.Forward.Port)
	if g.Driver.Supervisor(i.ID) != pid || count(g.Driver.Calls(), "Start ") != starts {
		t.Error("the sandbox was started again")
	}
	if count(g.Driver.Calls(), "Renew ") == 0 {
		t.Error("the supervisor's token was not renewed")
	}
	lines := 0
	if err := c.Logs(within(t), "demo", 0, false, func(gateway.LogLine) { lines++ }); err != nil || lines != 3 {
		t.Errorf("%d log lines, want 3: %v", lines, err)
	}
	healthy, err := c.Inspect(within(t), true, "demo")
	if err != nil || healthy[0].Health.Verdict != health.OK || healthy[0].Health.HTTPStatus != http.StatusOK {
		t.Errorf("health %+v: %v", healthy[0].Health, err)
	}
}

func dashboard(t testing.TB, c gateway.Client, name string) gateway.Dashboard {
	t.Helper()
	d, err := c.Dashboard(within(t), name, true)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Forward.Bound || d.Token.Empty() {
		t.Fatalf("dashboard %+v", d)
	}
	hidden, err := c.Dashboard(within(t), name, false)
	if err != nil || !hidden.Token.Empty() {
		t.Errorf("a token that was not asked for was shown: %v", err)
	}
	return d
}

func fetch(t testing.TB, port int) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport, Timeout: servertest.Wait}).Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "hello" {
		t.Fatalf("page %q: %v", body, err)
	}
}

func count(calls []string, prefix string) int {
	n := 0
	for _, c := range calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func TestOneStuckSandboxDelaysNobody(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	for n := range 20 { // more than start at a time
		name := fmt.Sprintf("stuck%d", n)
		g.Driver.Stick(name)
		if _, err := c.CreateSandbox(within(t), name, sandbox.Spec{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 16 {
		<-g.Driver.Stuck()
	}
	ready(t, c, "free", sandbox.Spec{})
	// A stuck start ends as soon as the sandbox is not wanted any more.
	if deleted, err := c.DeleteSandbox(within(t), "stuck0"); err != nil || !deleted {
		t.Errorf("delete a stuck one: %v %v", deleted, err)
	}
}

func TestFailedStartSaysWhyAndIsRepeated(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	g.Driver.Fail("Start", errors.New("no namespaces on Sundays"))
	if _, err := c.CreateSandbox(within(t), "demo", sandbox.Spec{}); err != nil {
		t.Fatal(err)
	}
	i, err := c.WaitSandbox(within(t), "demo", nil)
	if err != nil || i.Phase != sandbox.Error || !strings.Contains(i.Message, "no namespaces on Sundays") {
		t.Fatalf("%s %q: %v", i.Phase, i.Message, err)
	}
	g.Driver.Fail("Start", nil)
	for deadline := time.Now().Add(servertest.Wait); i.Phase != sandbox.Ready; {
		if time.Now().After(deadline) {
			t.Fatalf("still %s: %s", i.Phase, i.Message)
		}
		if i, err = c.WaitSandbox(within(t), "demo", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Who has removed the cause and asks for another attempt, whether by starting or by
// stopping and starting, gets it at once, not the old failure again.
func TestStartAfterAFailureTriesAtOnce(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	start := func() {
		t.Helper()
		if err := c.StartSandbox(within(t), "demo"); err != nil {
			t.Fatal(err)
		}
		if i, err := c.WaitSandbox(within(t), "demo", nil); err != nil || i.Phase != sandbox.Ready || i.Reason != "" {
			t.Errorf("%s %s %q: %v", i.Phase, i.Reason, i.Message, err)
		}
	}
	g.Driver.Fail("Start", errors.New("not yet"))
	made, err := c.CreateSandbox(within(t), "demo", sandbox.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitSandbox(within(t), "demo", nil); err != nil {
		t.Fatal(err)
	}
	g.Driver.Fail("Start", nil)
	start()
	g.Driver.Fail("Start", &fs.PathError{Op: "open", Path: "/state/launch.json", Err: syscall.ENOSPC})
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if i, err := c.WaitSandbox(within(t), "demo", nil); err != nil || i.Phase != sandbox.Error || i.Reason != "disk-full" || !strings.Contains(i.Message, "/state/launch.json") {
		t.Fatalf("%s %s %q: %v", i.Phase, i.Reason, i.Message, err)
	}
	g.Driver.Fail("Start", nil)
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	start()
	if i := await(t, c, "demo"); i.ID != made.ID {
		t.Errorf("it is another sandbox: %+v", i)
	}
}

func TestWatchOrder(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	i := ready(t, c, "demo", sandbox.Spec{})
	stream, err := api.WatchSandbox(within(t), &openshellv1.WatchSandboxRequest{Id: i.ID, FollowStatus: true, FollowLogs: true,
		FollowEvents: true, EventTail: 10, LogTailLines: 2})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for len(kinds) < 4 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetSandbox() != nil:
			kinds = append(kinds, "status")
		case m.GetLog() != nil:
			kinds = append(kinds, m.GetLog().GetMessage())
		case m.GetEvent() != nil:
			kinds = append(kinds, "event")
		}
	}
	if got := strings.Join(kinds, ","); got != "status,line 1,line 2,event" {
		t.Errorf("order is %s", got)
	}
	if _, err := c.DeleteSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream of a deleted sandbox ends with %v", err)
			}
			break
		}
	}
	gone, err := api.WatchSandbox(within(t), &openshellv1.WatchSandboxRequest{Id: i.ID})
	if err == nil {
		_, err = gone.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("watch what does not exist: %v", err)
	}
}

func TestExecEndsWithAnExitEvent(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	i := ready(t, c, "demo", sandbox.Spec{})
	for name, x := range map[string]struct {
		request *openshellv1.ExecSandboxRequest
		code    int32
		out     string
		fails   bool
	}{
		"true":      {request: &openshellv1.ExecSandboxRequest{Command: []string{"true"}}},
		"not there": {request: &openshellv1.ExecSandboxRequest{Command: []string{"/no/such/program"}}, code: 127},
		"input":     {request: &openshellv1.ExecSandboxRequest{Command: []string{"cat"}, Stdin: []byte("in")}, out: "in"},
		"much":      {request: &openshellv1.ExecSandboxRequest{Command: []string{"head", "-c", "3000000", "/dev/zero"}}, out: strings.Repeat("\x00", 3000000)},
		"env":       {request: &openshellv1.ExecSandboxRequest{Command: []string{"sh", "-c", "echo $A; pwd"}, Environment: map[string]string{"A": "b c"}, Workdir: "/"}, out: "b c\n/\n"},
		"time-out":  {request: &openshellv1.ExecSandboxRequest{Command: []string{"sleep", "600"}, TimeoutSeconds: 1}, code: 124},
		"vanishes":  {request: &openshellv1.ExecSandboxRequest{Command: []string{"vanish"}}, code: 255, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			request := &openshellv1.ExecSandboxRequest{SandboxId: i.ID, Command: x.request.Command, Stdin: x.request.Stdin,
				Environment: x.request.Environment, Workdir: x.request.Workdir, TimeoutSeconds: x.request.TimeoutSeconds}
			stream, err := api.ExecSandbox(within(t), request)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			var last *openshellv1.ExecSandboxEvent
			for {
				m, err := stream.Recv()
				if err != nil {
					if fails := !errors.Is(err, io.EOF); fails != x.fails {
						t.Errorf("stream ended with %v", err)
					}
					break
				}
				last = m
				out.Write(m.GetStdout().GetData())
			}
			if last.GetExit() == nil {
				t.Fatal("the last event is no exit")
			}
			if last.GetExit().GetExitCode() != x.code || out.String() != x.out {
				t.Errorf("code %d, %d bytes of output", last.GetExit().GetExitCode(), out.Len())
			}
		})
	}
	many := make([]string, 1025)
	for n := range many {
		many[n] = "x"
	}
	large := map[string]string{}
	for n := range 40 {
		large[fmt.Sprint("V", n)] = strings.Repeat("v", 32<<10)
	}
	for name, r := range map[string]*openshellv1.ExecSandboxRequest{
		"no command":     {SandboxId: i.ID},
		"much in all":    {SandboxId: i.ID, Command: []string{"true"}, Environment: large},
		"many arguments": {SandboxId: i.ID, Command: many},
		"long argument":  {SandboxId: i.ID, Command: []string{strings.Repeat("x", 32<<10+1)}},
		"bad variable":   {SandboxId: i.ID, Command: []string{"true"}, Environment: map[string]string{"A B": ""}},
	} {
		stream, err := api.ExecSandbox(within(t), r)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExecStreamsBothWays(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	i := ready(t, c, "demo", sandbox.Spec{})
	stdinReader, stdin := io.Pipe()
	stdout, stdoutWriter := io.Pipe()
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		code, err := c.Exec(ctx, gateway.Exec{SandboxID: i.ID, Command: []string{"cat"}, Stdin: stdinReader, Stdout: stdoutWriter})
		if err == nil && code != 0 {
			err = fmt.Errorf("code %d", code)
		}
		done <- err
	}()
	for n := range 3 { // each answer comes before the next question is asked
		question := fmt.Sprintf("question %d\n", n)
		if _, err := io.WriteString(stdin, question); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, len(question))
		if _, err := io.ReadFull(stdout, answer); err != nil || string(answer) != question {
			t.Fatalf("%q: %v", answer, err)
		}
	}
	_ = stdin.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTombstoneAndHandlesOnDisk(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	gone, interrupted := ready(t, c, "gone", sandbox.Spec{}), ready(t, c, "interrupted", sandbox.Spec{})
	kept := ready(t, c, "kept", sandbox.Spec{Agent: "command", Command: []string{"sleep", "1"}})
	g.Stop()
	stones := g.Config.Gateway
	if err := os.MkdirAll(stones.File(state.TombstonesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{gone.ID, interrupted.ID} {
		if err := os.WriteFile(stones.Tombstone(id), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// One was destroyed, of the other something is left.
	if err := g.Driver.Destroy(within(t), sandbox.Handle{ID: gone.ID, Name: "gone"}); err != nil {
		t.Fatal(err)
	}
	g.Run()
	c = g.Client()
	if all, err := c.Inspect(within(t), false); err != nil || slices.ContainsFunc(all, func(i gateway.Inspection) bool { return i.ID == gone.ID }) {
		t.Errorf("as soon as the gateway is ready: %+v %v", all, err)
	}
	await(t, c, "kept")
	for deadline := time.Now().Add(servertest.Wait); ; {
		all, err := c.Inspect(within(t), false)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && all[0].ID == kept.ID {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("records %+v", all)
		}
	}
	if left, err := os.ReadDir(stones.File(state.TombstonesDir)); err != nil || len(left) != 0 {
		t.Errorf("tombstones of what is gone: %v %v", left, err)
	}
	// The database is lost; what is on disk makes it again.
	g.Stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(g.Config.Gateway.Database() + suffix)
	}
	g.Run()
	again := await(t, g.Client(), "kept")
	if again.ID != kept.ID || again.PolicyDeclared != kept.PolicyDeclared {
		t.Errorf("was %+v, is %+v", kept, again)
	}
}

// A sandbox whose record on disk cannot be read goes on, and is stopped and deleted
// when that is asked for. Once a stop never ended, and a deletion waited for the
// record of whichever sandbox was damaged.
func TestUnreadableRecord(t *testing.T) {
	g := servertest.Start(t)
	made := ready(t, g.Client(), "demo", sandbox.Spec{})
	ready(t, g.Client(), "other", sandbox.Spec{})
	g.Stop()
	damaged := advisory.New("sandbox-record-corrupt", "read handle.json", errors.New("torn"))
	g.Driver.Fail("Handles", damaged)
	g.Driver.Fail("Prepare", damaged)
	g.Run()
	c := g.Client()
	until := func(what string, ok func(gateway.Inspection) bool) {
		t.Helper()
		for deadline := time.Now().Add(servertest.Wait); ; {
			all, err := c.Inspect(within(t), false, "demo")
			if err != nil || len(all) != 1 {
				t.Fatalf("%v, %v", all, err)
			}
			if ok(all[0]) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v", what, all[0])
			}
		}
	}
	until("said to be damaged", func(i gateway.Inspection) bool {
		return i.Phase == sandbox.Error && i.Reason == "sandbox-record-corrupt" && strings.Contains(i.Message, "it runs") && strings.Contains(i.Message, "handle.json")
	})
	until("connected", func(i gateway.Inspection) bool { return i.Connected })
	if code, out, _ := run(t, c, made.ID, "echo", "on"); code != 0 || out != "on\n" {
		t.Errorf("exec: %d %q", code, out)
	}
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Errorf("stop: %v", err)
	}
	until("stopped", func(i gateway.Inspection) bool { return i.Phase == sandbox.Stopped && i.Reason == "" })
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Error(err)
	}
	until("refused", func(i gateway.Inspection) bool {
		return i.Phase == sandbox.Error && strings.Contains(i.Message, "did not start: read handle.json: torn")
	})
	g.Driver.Fail("Prepare", nil) // somebody mended it
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Error(err)
	}
	until("ready again", func(i gateway.Inspection) bool { return i.Phase == sandbox.Ready && i.Reason == "" })
	for _, name := range []string{"demo", "other"} {
		if existed, err := c.DeleteSandbox(within(t), name); err != nil || !existed {
			t.Errorf("delete %s: %v, %v", name, existed, err)
		}
	}
}

// The key that sealed the records is lost. Providers have to be set again; the
// sandboxes' own tokens are those they were launched with.
func TestLostCredentialKey(t *testing.T) {
	g := servertest.Start(t)
	made := ready(t, g.Client(), "demo", sandbox.Spec{})
	before, _ := g.Driver.Secrets(made.ID)
	launch := g.Config.Gateway.Sandbox(made.ID)
	if err := os.MkdirAll(launch.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf(`{"dashboard_token":%q,"relay_token":%q}`, before.Dashboard.Reveal(), before.Relay.Reveal())
	if err := os.WriteFile(launch.File("launch.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	key := g.Config.Gateway.File("credentials.key")
	if err := os.WriteFile(key, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Usable": server.Usable(t.Context(), g.Config.Gateway), "Run": g.TryRun()} {
		if p, ok := advisory.Of(err); !ok || p.ID != "credential-key-unusable" || !strings.Contains(err.Error(), key) || !strings.Contains(strings.Join(p.Commands(), "\n"), "mv "+key) {
			t.Errorf("%s with a damaged key: %v", what, err)
		}
	}
	if err := os.Rename(key, key+".damaged"); err != nil {
		t.Fatal(err)
	}
	if err := server.Usable(t.Context(), g.Config.Gateway); err != nil {
		t.Errorf("Usable without a key: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("asking made a key")
	}
	g.Run()
	c := g.Client()
	await(t, c, "demo")
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	await(t, c, "demo")
	after, _ := g.Driver.Secrets(made.ID)
	if after.Dashboard.Reveal() != before.Dashboard.Reveal() || after.Relay.Reveal() != before.Relay.Reveal() {
		t.Error("the sandbox has other tokens than it was launched with")
	}
}

func TestClockForwardTwoDays(t *testing.T) { // R17
	g := servertest.Start(t)
	ready(t, g.Client(), "demo", sandbox.Spec{})
	g.Stop()
	g.Config.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	g.Run()
	c := g.Client()
	i := await(t, c, "demo")
	if code, _, _ := run(t, c, i.ID, "true"); code != 0 {
		t.Errorf("exec: %d", code)
	}
}

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	g := servertest.Start(t, func(c *server.Config) { c.Port = taken })
	if g.Ready.Port == taken || g.Ready.Port == 0 {
		t.Errorf("port %d", g.Ready.Port)
	}
	explicit := servertest.New(t, func(c *server.Config) { c.Port, c.PortExplicit = taken, true })
	err = explicit.TryRun()
	if p, ok := advisory.Of(err); !ok || p.ID != "port-in-use" || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("explicit port: %v", err)
	}
}

func TestSocketOfALivingProcessIsNotReplaced(t *testing.T) {
	g := servertest.Start(t)
	second := servertest.New(t)
	second.Config.Gateway.Roots.Run = g.Config.Gateway.Roots.Run
	err := second.TryRun()
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-socket-taken" {
		t.Errorf("second gateway on one socket: %v", err)
	}
	ready(t, g.Client(), "demo", sandbox.Spec{})
	// A socket file that nobody answers on is replaced.
	third := servertest.New(t)
	path := third.Config.Gateway.Socket()
	if err := os.MkdirAll(third.Config.Gateway.RunDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	third.Run()
}

func TestIdentity(t *testing.T) {
	g := servertest.Start(t)
	id, err := g.Client().Identity(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if id.InstanceID != g.Ready.InstanceID || id.PID != os.Getpid() || id.Gateway != "creel" || id.BuildID != "build-test" {
		t.Errorf("identity %+v", id)
	}
	other := servertest.Start(t)
	c := g.Conn(other.Config.Material.ClientConfig(bundle.LocalName))
	if _, err := creelv1.NewCreelClient(c).GetIdentity(within(t), &creelv1.GetIdentityRequest{}); err == nil {
		t.Error("another gateway's certificate was accepted")
	}
}

func TestUpdateKeepsTheSandbox(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer page.Close()
	spec := sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"}, Labels: map[string]string{"a": "1"},
		Dashboard: sandbox.Dashboard{TargetPort: 1}}
	i := ready(t, c, "demo", spec)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	spec.Dashboard = sandbox.Dashboard{TargetPort: page.Listener.Addr().(*net.TCPAddr).Port, Port: port, PortExplicit: true}
	spec.Labels = map[string]string{"a": "2"}
	update := c.(gateway.Updater)
	if err := update.UpdateSandbox(within(t), "demo", spec); err != nil {
		t.Fatal(err)
	}
	d, err := c.Dashboard(within(t), "demo", false)
	if err != nil || !d.Forward.Bound || d.Forward.Port == port || d.Forward.Reason != "dashboard-port-taken" || !strings.Contains(d.Forward.Error, fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("on a taken port, where it cannot move to: %+v %v", d.Forward, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := update.UpdateSandbox(within(t), "demo", spec); err != nil { // changes nothing, binds anew
		t.Fatal(err)
	}
	if d := dashboard(t, c, "demo"); d.Forward.Port != port {
		t.Errorf("dashboard %+v", d.Forward)
	}
	fetch(t, port)
	now := await(t, c, "demo")
	if now.ID != i.ID || now.Labels["a"] != "2" {
		t.Errorf("inspection %+v", now)
	}
	if err := update.UpdateSandbox(within(t), "demo", sandbox.Spec{Restart: "sometimes"}); err == nil {
		t.Error("nonsense was accepted")
	}
	if err := update.UpdateSandbox(within(t), "demo", sandbox.Spec{Confinement: sandbox.TierUnconfined}); err == nil || !strings.Contains(err.Error(), "risk_accepted") {
		t.Errorf("unconfined without the consent: %v", err)
	}
	if err := update.UpdateSandbox(within(t), "other", spec); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("of a sandbox that is not: %v", err)
	}
}

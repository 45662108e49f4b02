package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/onboard"
	"creel/internal/onboard/ladder"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// program runs command lines in one world, in this process.
type program struct {
	t        *testing.T
	home     string
	world    *world
	env      map[string]string
	prompter *ui.Scripted // nil: no terminal
	change   func(*Deps)
	out, err bytes.Buffer
}

func newProgram(t *testing.T) *program {
	t.Helper()
	dir := t.TempDir()
	return &program{t: t, home: filepath.Join(dir, "home"), world: newWorld(filepath.Join(dir, "world.json")), env: map[string]string{}}
}

func (p *program) run(ctx context.Context, args ...string) int {
	p.t.Helper()
	p.out.Reset()
	p.err.Reset()
	d := p.world.deps(func(name string) string {
		if name == "CREEL_HOME" {
			return p.home
		}
		return p.env[name]
	})
	d.Streams = ui.Streams{In: strings.NewReader(""), Out: &p.out, Err: &p.err}
	if p.prompter != nil {
		d.Streams.Interactive, d.Prompter = true, p.prompter
	}
	if p.change != nil {
		p.change(&d)
	}
	return Main(ctx, args, d)
}

// must runs a command line that has to end with the code.
func (p *program) must(code int, args ...string) {
	p.t.Helper()
	if got := p.run(p.t.Context(), args...); got != code {
		p.t.Fatalf("creel %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, p.out.String(), p.err.String())
	}
}

// A gateway's log neither drives the reader's terminal nor shows secrets, of whichever
// runtime it is.
func TestGatewayLogs(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard", "--gateway-only", "--yes")
	p.must(ExitOK, "gateway", "logs")
	if got := p.out.String(); !strings.HasPrefix(got, "one \ntoken=") || !strings.HasSuffix(got, "\ntwo\nthree\n") || strings.Contains(got, "canary") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}

func TestExitCodes(t *testing.T) {
	p := newProgram(t)
	p.must(ExitFailed, "status")
	p.must(ExitOK, "list")
	p.must(ExitUsage, "nonsense")
	p.must(ExitUsage, "status", "--json", "--watch")
	p.must(ExitUsage, "apply")
	p.must(ExitUsage, "onboard", "--port", "1", "--dashboard-port", "2")
	p.must(ExitOK, "onboard")
	p.must(ExitOK, "status")
	p.must(3, "exec", "--", "false")
	p.must(ExitUsage, "exec", "claw")
	p.must(ExitUsage, "connect")
	p.must(ExitUsage, "destroy", "claw")
	p.must(ExitFailed, "logs", "other")
	p.must(7, "supervise", "--dir", "x")
	p.must(8, "confine")
	p.must(9, "agent", "console")
	if err := p.world.tamper([]string{"drift"}); err != nil {
		t.Fatal(err)
	}
	p.must(ExitDegraded, "gateway", "status")
	if err := p.world.tamper([]string{"stop"}); err != nil {
		t.Fatal(err)
	}
	p.must(ExitUnknown, "list")
	p.must(ExitFailed, "status")
	p.must(ExitFailed, "exec", "--", "echo")
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.world.path), "secrets-unreadable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.must(ExitUnknown, "gateway", "secrets", "inspect")
	p.must(ExitUnknown, "status")
	p.must(ExitUnknown, "onboard", "--yes")
}

func TestCodeOf(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"nil", t.Context(), nil, ExitOK},
		{"plain", t.Context(), errors.New("x"), ExitFailed},
		{"its own code", t.Context(), fmt.Errorf("x: %w", exitCode(42)), 42},
		{"usage", t.Context(), fmt.Errorf("x: %w", usage("usage", "y")), ExitUsage},
		{"a remark is no usage error", t.Context(), declined(), ExitFailed},
		{"busy", t.Context(), advisory.New("gateway-busy", "", &state.Busy{}), ExitBusy},
		{"interrupted", cancelled, fmt.Errorf("x: %w", context.Canceled), ExitInterrupted},
		{"cancelled inside only", t.Context(), context.Canceled, ExitFailed},
		{"unknown advisory", t.Context(), advisory.New("no-such", "", nil), ExitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := codeOf(c.ctx, c.err); got != c.want {
				t.Errorf("codeOf(%v) = %d, want %d", c.err, got, c.want)
			}
		})
	}
}

func TestBusyNamesTheHolder(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	roots, err := state.RootsFrom(func(name string) string { return map[string]string{"CREEL_HOME": p.home}[name] })
	if err != nil {
		t.Fatal(err)
	}
	l, err := state.TryLock(roots.Gateway("creel").Lock(), "another command")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}()
	for _, args := range [][]string{{"onboard", "--yes", "--restart", "never"}, {"stop"}, {"destroy", "--yes"}, {"gateway", "restart"},
		{"gateway", "secrets", "repair"}, {"uninstall", "--yes"}, {"inference", "set", "--provider", "none"}} {
		p.must(ExitBusy, args...)
		if text := p.err.String(); !strings.Contains(text, "another command") || !strings.Contains(text, "gateway-busy") {
			t.Errorf("creel %s does not name the holder:\n%s", strings.Join(args, " "), text)
		}
	}
	// Looking needs no lock.
	p.must(ExitOK, "status")
	p.must(ExitOK, "list")
	p.must(ExitOK, "onboard", "--plan")
}

// fingerprint hashes names, modes, times and contents of a tree.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %s %d %d\n", path, info.Mode(), info.ModTime().UnixNano(), info.Size())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, _ = sum.Write(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// R6: looking writes nothing.
func TestLookingWritesNothing(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	before := fingerprint(t, filepath.Dir(p.home))
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"doctor"}, {"list"}, {"logs"}, {"dashboard"}, {"plan"},
		{"onboard", "--plan", "--restart", "never"}, {"onboard"}, {"gateway", "status"}, {"gateway", "logs"},
		{"gateway", "secrets", "inspect"}, {"gateway", "secrets", "repair", "--plan"}, {"gateway", "secrets", "script"}, {"inference", "get"}, {"uninstall", "--plan"}} {
		p.must(ExitOK, args...)
		if after := fingerprint(t, filepath.Dir(p.home)); after != before {
			t.Fatalf("creel %s changed the state", strings.Join(args, " "))
		}
	}
	p.must(ExitOK, "stop")
	if fingerprint(t, filepath.Dir(p.home)) == before {
		t.Error("the fingerprint does not see a change")
	}
}

// R6: the first line of status is the verdict, whatever it is.
func TestVerdictIsTheFirstLine(t *testing.T) {
	p := newProgram(t)
	check := func(want string) {
		t.Helper()
		p.run(t.Context(), "status")
		if first, _, _ := strings.Cut(p.out.String(), "\n"); !strings.HasPrefix(first, want) {
			t.Errorf("the first line is %q, want %q", first, want)
		}
	}
	check("x failed: ")
	p.must(ExitOK, "onboard")
	check("+ ok: ")
	if err := p.world.tamper([]string{"hang"}); err != nil {
		t.Fatal(err)
	}
	check("x failed at gateway: gateway creel, 1 sandbox")
	if err := os.WriteFile(filepath.Join(p.home, "config", "gateways", "creel.yaml"), []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("? unknown: ")
}

// A provider that refuses leaves everything as it was.
func TestRefusedRouteIsNotRecorded(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	path := filepath.Join(p.home, "config", "gateways", "creel.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.env["TEST_KEY"] = "bad-key"
	p.must(ExitFailed, "inference", "set", "--provider", "custom", "--endpoint-url", "http://127.0.0.1:9/v1", "--model", "good-model", "--credential-env", "TEST_KEY")
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("the refused route was recorded:\n%s", diff)
	}
	if s := p.world.get(); s.HasRoute || s.KeyStored {
		t.Error("the refused key was stored")
	}
}

func TestEveryJSONIsOneDocument(t *testing.T) {
	p := newProgram(t)
	p.change = func(d *Deps) {
		d.InstallService = func(context.Context, string, gateway.Progress) (gateway.Service, bool, error) {
			return gateway.Service{}, false, advisory.New("service-no-systemd", "systemd does not run this machine", nil)
		}
	}
	lines := [][]string{{"status", "--json"}, {"doctor", "--json"}, {"list", "--json"}, {"version", "--json"}, {"gateway", "status", "--json"},
		{"gateway", "secrets", "inspect", "--json"}, {"gateway", "secrets", "repair", "--plan", "--json"},
		// What cannot be said is a document, too.
		{"dashboard", "--json"}, {"inference", "get", "--json"}, {"repair", "--json"}, {"gateway", "upgrade", "--json"}, {"gateway", "install-service", "--json"},
		{"forward", "list", "nobody", "--json"}, {"status", "Nobody", "--json"}, {"gateway", "secrets", "rotate", "--context=", "--json"}}
	check := func() {
		for _, args := range lines {
			p.run(t.Context(), args...)
			decoder := json.NewDecoder(&p.out)
			var v map[string]any
			if err := decoder.Decode(&v); err != nil {
				t.Errorf("creel %s: %v", strings.Join(args, " "), err)
				continue
			}
			for name, value := range v {
				if value == nil && strings.HasSuffix(name, "s") && name != "elapsed_us" {
					t.Errorf("creel %s: %s is null", strings.Join(args, " "), name)
				}
			}
			if err := decoder.Decode(&v); !errors.Is(err, io.EOF) {
				t.Errorf("creel %s prints more than one document: %v", strings.Join(args, " "), err)
			}
		}
	}
	check()
	p.must(ExitOK, "onboard")
	lines = append(lines, []string{"inference", "get", "--json"})
	check()
}

func TestEventsAreLines(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard", "--output", "jsonl")
	var types []ladder.EventType
	lines := bufio.NewScanner(&p.out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		var e ladder.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		types = append(types, e.Type)
	}
	if len(types) < 10 || types[0] != ladder.RunStarted || types[len(types)-1] != ladder.RunEnded {
		t.Errorf("the events are %v", types)
	}
}

func TestPromptsDecide(t *testing.T) {
	p := newProgram(t)
	p.prompter = &ui.Scripted{Answers: []ui.Answer{{Question: "Model provider", Reply: "none"}, {Question: "Go ahead?", Reply: "no"}}}
	p.must(ExitFailed, "onboard")
	if !strings.Contains(p.err.String(), "nothing was changed") || strings.Contains(p.err.String(), "next:") {
		t.Error(p.err.String())
	}
	if _, err := os.Stat(p.home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a declined plan wrote something: %v", err)
	}
	p.prompter.Answers = []ui.Answer{{Err: ui.ErrAborted}}
	p.must(ExitFailed, "onboard")
	p.prompter.Answers = []ui.Answer{{Reply: "none"}, {Question: "Go ahead?", Reply: "yes"}}
	p.must(ExitOK, "onboard")
	// What is recorded is not asked again, and nothing to do needs no consent.
	p.must(ExitOK, "onboard")
	// --yes answers, --non-interactive and jsonl never ask.
	p.must(ExitOK, "onboard", "--yes", "--restart", "never")
	p.must(ExitUsage, "onboard", "--non-interactive", "--restart", "always")
	p.must(ExitUsage, "onboard", "--output", "jsonl", "--restart", "always")
	p.env["NEMOCLAW_NON_INTERACTIVE"] = "1"
	p.must(ExitUsage, "onboard", "--restart", "always")
	p.env["NEMOCLAW_YES"] = "1"
	p.must(ExitOK, "onboard", "--restart", "always")
	p.env = map[string]string{}

	p.prompter.Answers = []ui.Answer{{Question: "Remove sandbox claw and its workspace for good?", Reply: "no"}}
	p.must(ExitFailed, "destroy")
	p.must(ExitOK, "status")
	p.prompter.Answers = []ui.Answer{{Reply: "yes"}}
	p.must(ExitOK, "destroy")
	if n := len(p.world.get().Sandboxes); n != 0 {
		t.Errorf("%d sandboxes are left", n)
	}
}

func TestFreshForgetsAnswers(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard", "--name", "first", "--restart", "never")
	p.must(ExitOK, "onboard", "--name", "second")
	path := filepath.Join(p.home, "config", "gateways", "creel.yaml")
	before, err := desired.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	before.Gateway = desired.Gateway{Port: 17999, Endpoint: "https://gateway.example", TLS: desired.Plaintext}
	in := onboard.Inputs{Flags: map[onboard.Key]string{onboard.Name: "first"}}
	if err := forget(&in, before); err != nil || in.Recorded.Gateway != before.Gateway {
		t.Errorf("how the gateway is reached is forgotten: %+v, %v", in.Recorded.Gateway, err)
	}
	p.must(ExitUsage, "onboard", "--fresh")
	p.must(ExitOK, "onboard", "--fresh", "--name", "first", "--yes")
	d, err := desired.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := d.Sandbox("first")
	if _, there := d.Sandbox("second"); !there || first.Restart != sandbox.RestartAlways {
		t.Errorf("after --fresh: %+v", d.Sandboxes)
	}
}

func TestKeyNeverShows(t *testing.T) {
	p := newProgram(t)
	p.env["TEST_KEY"] = "good-key"
	p.must(ExitOK, "onboard", "--provider", "custom", "--endpoint-url", "http://127.0.0.1:9/v1", "--model", "good-model",
		"--credential-env", "TEST_KEY", "--yes")
	if s := p.world.get(); !s.KeyStored || !s.HasRoute {
		t.Fatalf("the route was not set: %+v", s)
	}
	for _, args := range [][]string{{"status", "--json"}, {"inference", "get"}, {"onboard", "--output", "jsonl"}} {
		p.must(ExitOK, args...)
		if strings.Contains(p.out.String()+p.err.String(), "good-key") {
			t.Errorf("creel %s shows the key", strings.Join(args, " "))
		}
	}
	if err := filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("good-key")) {
			t.Errorf("%s holds the key", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// interruptedRuntime hangs in Dial's client until the context ends.
type interruptedRuntime struct {
	worldRuntime
	hanging chan<- struct{}
}

func (r interruptedRuntime) Dial(context.Context) (gateway.Client, error) {
	return interruptedClient{worldClient{r.w}, r.hanging}, nil
}

type interruptedClient struct {
	worldClient
	hanging chan<- struct{}
}

func (c interruptedClient) Exec(ctx context.Context, _ gateway.Exec) (int, error) {
	close(c.hanging)
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestInterruptedIs130(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	hanging := make(chan struct{})
	p.change = func(d *Deps) {
		d.Runtime = func(string) (gateway.Runtime, error) { return interruptedRuntime{worldRuntime{p.world}, hanging}, nil }
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hanging
		cancel()
	}()
	if code := p.run(ctx, "exec", "--", "sleep"); code != ExitInterrupted {
		t.Errorf("exit code %d\n%s", code, p.err.String())
	}
}

// manyRuntime has a thousand sandboxes and counts what it is asked.
type manyRuntime struct {
	worldRuntime
	all   []gateway.Inspection
	calls *int
}

func (r manyRuntime) Dial(context.Context) (gateway.Client, error) {
	return manyClient{worldClient{r.w}, r}, nil
}

type manyClient struct {
	worldClient
	r manyRuntime
}

func (c manyClient) Inspect(context.Context, bool, ...string) ([]gateway.Inspection, error) {
	*c.r.calls++
	return c.r.all, nil
}

func TestListAsksOnceHoweverMany(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	calls := 0
	p.change = many(p, 1000, &calls)
	began := time.Now()
	p.must(ExitOK, "list", "--json")
	took := time.Since(began)
	var doc ListDocument
	if err := json.Unmarshal(p.out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Sandboxes) != 1001 || // and the recorded one
		calls != 1 {
		t.Errorf("%d sandboxes with %d calls", len(doc.Sandboxes), calls)
	}
	// A generous multiple of the target: the benchmark measures, this only notices
	// a change of order.
	if took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func many(p *program, n int, calls *int) func(*Deps) {
	all := make([]gateway.Inspection, n)
	for i := range all {
		all[i] = gateway.Inspection{Name: fmt.Sprintf("box-%d", i), ID: fmt.Sprint(i), Agent: "console", Phase: sandbox.Ready, Wanted: sandbox.Running}
	}
	return func(d *Deps) {
		d.Runtime = func(string) (gateway.Runtime, error) {
			return manyRuntime{worldRuntime{p.world}, all, calls}, nil
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	p := &program{home: filepath.Join(b.TempDir(), "home"), env: map[string]string{}, t: &testing.T{}}
	p.world = newWorld(filepath.Join(b.TempDir(), "world.json"))
	p.change = many(p, 1000, new(int))
	for b.Loop() {
		if code := p.run(b.Context(), "list"); code != ExitOK {
			b.Fatal(p.err.String())
		}
	}
}

func TestStepsAreShownInOrder(t *testing.T) {
	var b bytes.Buffer
	a := &app{Deps: Deps{Streams: ui.Streams{Err: &b, Out: io.Discard}}}
	r := a.newRenderer("creel", false)
	event := func(typ ladder.EventType, n int, text string) {
		e := ladder.Event{Type: typ, N: n, Of: 4, Title: fmt.Sprintf("Step %d", n), Message: text, Verdict: health.OK.String()}
		r.text(e)
	}
	event(ladder.StepStarted, 1, "")
	event(ladder.StepEnded, 1, "one")
	event(ladder.StepStarted, 3, "")
	event(ladder.StepStarted, 2, "")
	event(ladder.Progressed, 3, "doing three")
	event(ladder.Progressed, 2, "doing two")
	event(ladder.StepEnded, 3, "three")
	event(ladder.StepEnded, 2, "two")
	event(ladder.StepStarted, 4, "")
	event(ladder.Progressed, 4, "doing four")
	r.text(ladder.Event{Type: ladder.RunEnded})
	want := "[1/4] Step 1\n  + one\n" +
		"[2/4] Step 2\n  doing two...\n  + two\n" +
		"[3/4] Step 3\n  doing three...\n  + three\n" +
		"[4/4] Step 4\n  doing four...\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 5 * time.Second: "5s", 61 * time.Second: "1m", 3 * time.Hour: "3h", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		then := now.Add(-d)
		if got := age(&then, now); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
	if age(nil, now) != "-" {
		t.Error("no time has an age")
	}
}

// A hint repeats the command line only when a shell reads it the same way.
func TestAgain(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"destroy", "claw"}, "creel destroy claw --yes"},
		{[]string{"onboard", "--agent", "command", "--", "sh", "-c", "a b"}, "creel onboard --agent command --yes -- sh -c a b"},
		{[]string{"apply", "-f", "my file"}, "creel apply -f --yes"},
	} {
		if got := (&app{args: c.args}).again("--yes"); got != c.want {
			t.Errorf("%q gives %q", c.args, got)
		}
	}
}

package sshd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"creel/internal/supervisor/box/boxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with a client connected to it.
type rig struct {
	box    *boxtest.Box
	client *ssh.Client
	done   chan struct{} // the server has ended the connection
}

func connect(t testing.TB) *rig {
	t.Helper()
	g := &rig{box: boxtest.New(t, 0), done: make(chan struct{})}
	s, err := New(Config{Box: g.box, Shell: "/bin/sh", SFTP: "", Log: slog.New(slog.DiscardHandler),
		Env: []string{"PATH=" + os.Getenv("PATH"), "BASE=kept", "OVER=base", "HOME=" + g.box.Workspace()}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(g.done)
		c, err := l.Accept()
		_ = l.Close()
		if err == nil {
			s.Serve(ctx, c)
		}
	}()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	connection, channels, requests, err := ssh.NewClientConn(c, "sandbox", &ssh.ClientConfig{User: "sandbox", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	g.client = ssh.NewClient(connection, channels, requests)
	t.Cleanup(func() {
		_ = g.client.Close()
		<-g.done
		cancel()
		if n := g.box.Running(); n != 0 {
			t.Errorf("%d processes outlived the connection", n)
		}
	})
	return g
}

// result is what a client saw of a command.
type result struct {
	out, err string
	code     int // -1 when none was told
}

func (g *rig) open(t testing.TB, r ExecRequest) (ssh.Channel, <-chan *ssh.Request) {
	t.Helper()
	extra, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	channel, requests, err := g.client.OpenChannel(ExecChannel, extra)
	if err != nil {
		t.Fatal(err)
	}
	return channel, requests
}

func finish(channel ssh.Channel, requests <-chan *ssh.Request) result {
	code := make(chan int, 1)
	go func() {
		end := -1
		for q := range requests {
			var s exitStatus
			if q.Type == "exit-status" && ssh.Unmarshal(q.Payload, &s) == nil {
				end = int(s.Code)
			}
		}
		code <- end
	}()
	var out, errs bytes.Buffer
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.Copy(&errs, channel.Stderr())
	}()
	_, _ = io.Copy(&out, channel)
	<-said
	return result{out.String(), errs.String(), <-code}
}

func (g *rig) exec(t testing.TB, stdin string, r ExecRequest) result {
	t.Helper()
	channel, requests := g.open(t, r)
	defer channel.Close()
	go func() {
		_, _ = io.WriteString(channel, stdin)
		_ = channel.CloseWrite()
	}()
	return finish(channel, requests)
}

func TestExec(t *testing.T) {
	g := connect(t)
	workspace, err := filepath.EvalSymlinks(g.box.Workspace())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(workspace, "plain"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		stdin string
		ask   ExecRequest
		want  result
	}{
		{"output", "", ExecRequest{Command: []string{"printf", "%s", "a  b;$HOME"}}, result{"a  b;$HOME", "", 0}},
		{"error output and code", "", ExecRequest{Command: []string{"sh", "-c", "echo out; echo err >&2; exit 42"}}, result{"out\n", "err\n", 42}},
		{"input", "typed", ExecRequest{Command: []string{"cat"}}, result{"typed", "", 0}},
		{"environment", "", ExecRequest{Command: []string{"sh", "-c", `echo $BASE $OVER "$NEW"`}, Env: map[string]string{"NEW": "a b", "OVER": "mine"}}, result{"kept mine a b\n", "", 0}},
		{"workspace", "", ExecRequest{Command: []string{"pwd", "-P"}}, result{workspace + "\n", "", 0}},
		{"directory", "", ExecRequest{Command: []string{"pwd"}, Workdir: "/"}, result{"/\n", "", 0}},
		{"signal", "", ExecRequest{Command: []string{"sh", "-c", "kill -TERM $$"}}, result{"", "", 143}},
		{"not found", "", ExecRequest{Command: []string{"no-such-program"}}, result{"", "creel: no-such-program: command not found (or the working directory is missing)\n", 127}},
		{"not executable", "", ExecRequest{Command: []string{workspace + "/plain"}}, result{"", "creel: plain: cannot be executed\n", 126}},
		{"timeout", "", ExecRequest{Command: []string{"sh", "-c", "echo begun; sleep 600"}, TimeoutSeconds: 1}, result{"begun\n", "", 124}},
		{"in time", "", ExecRequest{Command: []string{"echo", "done"}, TimeoutSeconds: 100}, result{"done\n", "", 0}},
		{"terminal", "", ExecRequest{Command: []string{"sh", "-c", "test -t 0 && stty size && echo $TERM"}, TTY: true, Cols: 91, Rows: 17}, result{"17 91\r\nxterm-256color\r\n", "", 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := g.exec(t, c.stdin, c.ask); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestExecLargeOutputIsWhole(t *testing.T) {
	g := connect(t)
	got := g.exec(t, "", ExecRequest{Command: []string{"sh", "-c", "head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2"}})
	if len(got.out) != 3000000 || len(got.err) != 100000 || got.code != 0 {
		t.Errorf("%d and %d bytes, code %d", len(got.out), len(got.err), got.code)
	}
}

// A process left behind keeps the pipe open; the command has ended all the same.
func TestExecDoesNotWaitForWhatItLeft(t *testing.T) {
	g := connect(t)
	got := g.exec(t, "", ExecRequest{Command: []string{"sh", "-c", "echo $$; sleep 600 & echo $!"}})
	lines := strings.Fields(got.out)
	if got.code != 0 || len(lines) != 2 {
		t.Fatalf("got %+v", got)
	}
	var left int
	if _, err := fmt.Sscan(lines[1], &left); err != nil || syscall.Kill(left, syscall.SIGKILL) != nil {
		t.Errorf("process %s was not left behind", lines[1])
	}
}

func TestExecRefusesNonsense(t *testing.T) {
	g := connect(t)
	for name, extra := range map[string]string{"nothing": "", "not JSON": "x", "no command": "{}", "NUL": `{"command":["a\u0000b"]}`, "size": `{"command":["a"],"cols":-1}`} {
		_, _, err := g.client.OpenChannel(ExecChannel, []byte(extra))
		if refused := (*ssh.OpenChannelError)(nil); !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || refused.Message == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := g.client.OpenChannel("x11", nil); err == nil {
		t.Error("another channel type is accepted")
	}
}

// follow opens a channel for a request that comes as its first data.
func (g *rig) follow(t testing.TB, content []byte, announced int) (ssh.Channel, <-chan *ssh.Request) {
	t.Helper()
	note, err := json.Marshal(Follows{Bytes: announced})
	if err != nil {
		t.Fatal(err)
	}
	channel, requests, err := g.client.OpenChannel(ExecChannel, note)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Write(content); err != nil {
		t.Fatal(err)
	}
	return channel, requests
}

// What is too large for the packet that opens a channel follows it, and does not
// become part of the command's input.
func TestExecThatFollows(t *testing.T) {
	g := connect(t)
	long := []string{"sh", "-c", `n=0; for a in "$@"; do n=$((n + ${#a})); done; echo $n; cat`, "sh"}
	for range 8 {
		long = append(long, strings.Repeat("<", 31<<10)) // six bytes each as JSON
	}
	content, err := json.Marshal(ExecRequest{Command: long, Env: map[string]string{"A": strings.Repeat("a", maxArgument)}})
	if err != nil {
		t.Fatal(err)
	}
	channel, requests := g.follow(t, content, len(content))
	if _, err := io.WriteString(channel, "input"); err != nil {
		t.Fatal(err)
	}
	if err := channel.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := finish(channel, requests); got != (result{fmt.Sprintln(8*31<<10) + "input", "", 0}) {
		t.Errorf("got %+v", got)
	}

	huge := ExecRequest{Command: []string{"true"}, Env: map[string]string{}}
	for i := range 40 {
		huge.Env[fmt.Sprint("V", i)] = strings.Repeat("v", maxArgument)
	}
	tooMuch, err := json.Marshal(huge)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content   []byte
		announced int
		says      string
	}{
		"nonsense":    {[]byte("nonsense"), 8, "read request"},
		"cut off":     {[]byte(`{"command":["true"]}`), 100, "read request"},
		"no command":  {[]byte(`{}`), 2, "the command is empty"},
		"environment": {tooMuch, len(tooMuch), "1024 KiB in all are allowed"},
	} {
		channel, requests := g.follow(t, c.content, c.announced)
		_ = channel.CloseWrite()
		if got := finish(channel, requests); got.code != 126 || got.out != "" || !strings.Contains(got.err, c.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, n := range []int{-1, maxFollowing + 1} {
		if _, _, err := g.client.OpenChannel(ExecChannel, fmt.Appendf(nil, `{"follows":%d}`, n)); err == nil {
			t.Errorf("%d bytes are awaited", n)
		}
	}
	// A client that never sends the rest and goes away leaves nothing.
	channel, _ = g.follow(t, []byte("{"), 100)
	_ = channel.Close()
}

func TestExecSignalAndResize(t *testing.T) {
	g := connect(t)
	channel, requests := g.open(t, ExecRequest{Command: []string{"bash", "-c",
		`trap 'stty size; exit 5' USR1; trap 'echo resized' WINCH; echo up; while :; do sleep 0.02; done`}, TTY: true, Cols: 80, Rows: 24})
	defer channel.Close()
	wait := func(want string) {
		t.Helper()
		var got []byte
		one := make([]byte, 1)
		for !strings.HasSuffix(string(got), want) {
			if _, err := channel.Read(one); err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			got = append(got, one[0])
		}
	}
	wait("up\r\n")
	if ok, err := channel.SendRequest("window-change", true, ssh.Marshal(windowChange{Cols: 120, Rows: 40})); err != nil || !ok {
		t.Fatalf("window-change: %v, %v", ok, err)
	}
	wait("resized\r\n")
	if ok, err := channel.SendRequest("signal", true, ssh.Marshal(signalRequest{"NONSENSE"})); err != nil || ok {
		t.Fatalf("an unknown signal: %v, %v", ok, err)
	}
	if ok, err := channel.SendRequest("signal", true, ssh.Marshal(signalRequest{"USR1"})); err != nil || !ok {
		t.Fatalf("signal: %v, %v", ok, err)
	}
	if got := finish(channel, requests); !strings.Contains(got.out, "40 120") || got.code != 5 {
		t.Errorf("got %+v", got)
	}
}

// A client that goes away takes its command with it, whether it closes the
// channel or the whole connection, and even if the command ignores the hang-up.
func TestClientGone(t *testing.T) {
	for name, leave := range map[string]func(*rig, ssh.Channel){
		"channel":    func(_ *rig, c ssh.Channel) { _ = c.Close() },
		"connection": func(g *rig, _ ssh.Channel) { _ = g.client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			g := connect(t)
			fifo := filepath.Join(t.TempDir(), "held")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			g.open(t, ExecRequest{Command: []string{"true"}}) // the connection serves others as well
			channel, _ := g.open(t, ExecRequest{Command: []string{"sh", "-c", `trap '' HUP TERM; exec 9>"$0"; while :; do sleep 0.05; done`, fifo}})
			held, err := os.Open(fifo) // returns when the command has opened it
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			if err := held.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			leave(g, channel)
			if n, err := held.Read(make([]byte, 1)); n != 0 || err != io.EOF { // the last that held it has ended
				t.Errorf("the command goes on: %v", err)
			}
		})
	}
}

func TestSession(t *testing.T) {
	g := connect(t)
	t.Run("exec through the shell", func(t *testing.T) {
		s, err := g.client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Setenv("NEW", "v"); err != nil {
			t.Fatal(err)
		}
		out, err := s.Output(`echo "$NEW $OVER" | tr a-z A-Z; exit 7`)
		ended := (*ssh.ExitError)(nil)
		if string(out) != "V BASE\n" || !errors.As(err, &ended) || ended.ExitStatus() != 7 {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		s, err := g.client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = s.Run("kill -KILL $$")
		ended := (*ssh.ExitError)(nil)
		if !errors.As(err, &ended) || ended.Signal() != "KILL" {
			t.Errorf("%v", err)
		}
	})
	t.Run("shell with terminal", func(t *testing.T) {
		s, err := g.client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.RequestPty("vt100", 30, 100, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		in, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Shell(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(in, "echo size $(stty size) term $TERM; exit 3\n")
		all, _ := io.ReadAll(out)
		err = s.Wait()
		ended := (*ssh.ExitError)(nil)
		if !strings.Contains(string(all), "size 30 100 term vt100") || !errors.As(err, &ended) || ended.ExitStatus() != 3 {
			t.Errorf("%q, %v", all, err)
		}
	})
	t.Run("sftp is refused without a server for it", func(t *testing.T) {
		s, err := g.client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.RequestSubsystem("sftp") == nil {
			t.Error("accepted")
		}
	})
}

func TestDirect(t *testing.T) {
	g := connect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // reads to the end, then answers: half-closing must work
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(all))
	}()
	port := l.Addr().(*net.TCPAddr).Port
	c, err := g.client.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "half")
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "HALF" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()

	for _, host := range []string{"192.0.2.1", "0.0.0.0", "example.com", "127.0.0.1.example.com", ""} {
		extra := ssh.Marshal(directRequest{Host: host, Port: uint32(port)})
		_, _, err := g.client.OpenChannel("direct-tcpip", extra)
		if refused := (*ssh.OpenChannelError)(nil); !errors.As(err, &refused) || refused.Reason != ssh.Prohibited {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "[::1]": true, "LocalHost": true, "::ffff:127.0.0.1": true,
		"10.0.0.1": false, "0.0.0.0": false, "": false, "localhost.": false} {
		if got := Loopback(host); got != want {
			t.Errorf("Loopback(%q) = %v", host, got)
		}
	}
}

func TestEnvironmentHasNoDuplicates(t *testing.T) {
	got := environment([]string{"B=1", "A=x=y"}, map[string]string{"B": "2", "C": ""})
	if want := []string{"A=x=y", "B=2", "C="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever the extra data holds, what is accepted can be started as it is.
func FuzzParseExec(f *testing.F) {
	for _, s := range []string{`{"command":["sh","-c","x"],"env":{"A":"b"},"tty":true,"cols":80,"rows":24,"timeout_seconds":5}`,
		`{"command":[""]}`, `{"command":["a"],"env":{"=":""}}`, `{"command":["a"],"timeout_seconds":9223372036854775807}`, `[]`, `{"command":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseExec(b)
		if err != nil {
			return
		}
		if time.Duration(r.TimeoutSeconds)*time.Second < 0 {
			t.Fatalf("timeout overflows: %d", r.TimeoutSeconds)
		}
		for _, text := range append(append(slices.Clone(r.Command), r.Workdir), environment(nil, r.Env)...) {
			if strings.ContainsRune(text, 0) {
				t.Fatalf("NUL in %q", text)
			}
		}
		if len(r.Command) == 0 {
			t.Fatal("no command")
		}
	})
}

func BenchmarkExecTrue(b *testing.B) {
	g := connect(b)
	for b.Loop() {
		if got := g.exec(b, "", ExecRequest{Command: []string{"true"}}); got.code != 0 {
			b.Fatalf("%+v", got)
		}
	}
}

//go:build linux

package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	inferencev1 "creel/api/openshell/inference/v1"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
	"creel/internal/supervisor/sshd"
	"creel/test/openaitest"
	"creel/test/require"
)

// mappedUID is who a sandbox of root's is outside.
const mappedUID = 524288 + 77

// confined is a launch for a real Box. Everything on the way to its workspace can
// be traversed by the sandbox's user.
func confined(t *testing.T, tier sandbox.Tier, argv ...string) sandbox.Launch {
	t.Helper()
	s := confine.Probe(t.Context())
	if _, _, err := confine.Choose(tier, s, false); err != nil {
		require.Feature(t, map[sandbox.Tier]string{sandbox.TierNamespaces: "userns", sandbox.TierLandlock: "landlock"}[tier], false, err.Error())
	}
	l := launch(t, argv...)
	if err := os.Chmod(l.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	l.Spec.Confinement = tier
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.Executable = filepath.Join(l.Dir, "creel")
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Executable, b, 0o755); err != nil {
		t.Fatal(err)
	}
	workspace := filepath.Join(l.Dir, state.WorkspaceDir)
	if err := os.Mkdir(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		l.HostUID, l.HostGID = mappedUID, mappedUID
		if err := os.Chown(workspace, mappedUID, mappedUID); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func tiers(t *testing.T, test func(t *testing.T, tier sandbox.Tier)) {
	for _, tier := range []sandbox.Tier{sandbox.TierNamespaces, sandbox.TierLandlock} {
		t.Run(string(tier), func(t *testing.T) { test(t, tier) })
	}
}

// From inside a real Box a model request is answered, the environment is what it
// should be, and the provider's key is in no file, argv or environment that the
// agent can see.
func TestConfinedModelRequest(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		provider := openaitest.Start(t)
		provider.SetKey(canary)
		l := confined(t, tier, "bash", "-c", `
			body='{"messages":[{"role":"user","content":"ping"}]}'
			address=${OPENAI_BASE_URL#http://}; address=${address%/v1}
			exec 3<>/dev/tcp/${address%:*}/${address#*:}
			printf 'POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s' "$OPENAI_API_KEY" ${#body} "$body" >&3
			cat <&3; exec 3>&-; echo
			grep -l `+canary+` /proc/[0-9]*/environ /proc/[0-9]*/cmdline /sandbox/* 2>/dev/null && echo LEAK
			echo "home $HOME is $(pwd), uid $(id -u), tier $(echo "$CREEL_CONFINEMENT" | cut -c1-24)"; touch "$HOME/written"
			echo END`)
		write(t, l)
		g := serve(t, l.GatewaySocket, &inferencev1.GetInferenceBundleResponse{Routes: []*inferencev1.ResolvedRoute{
			{BaseUrl: provider.URL, ModelId: "the-model", ApiKey: canary, ProviderType: "custom"}}})
		r := begin(t, l, box.Start)
		if !r.ready.OK {
			t.Fatalf("ready line %+v", r.ready)
		}
		g.said(t, "You said: ping")
		if line := g.said(t, "home "); tier == sandbox.TierNamespaces && !strings.Contains(line, `home /sandbox is /sandbox, uid 1000, tier {"tier":"namespaces"`) {
			t.Errorf("inside it says %q", line)
		}
		g.said(t, "END")
		s := <-g.states
		for s.GetMain().GetState() != "exited" {
			s = <-g.states
		}
		if s.GetConfinement().GetTier() != string(tier) || s.GetPolicyEnforced() != l.Spec.PolicyHash || len(s.GetConfinement().GetProtections()) == 0 {
			t.Errorf("state %v", s)
		}
		if code := r.end(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		log, err := os.ReadFile(filepath.Join(l.Dir, state.LogDir, state.AgentLogFile))
		if err != nil || strings.Contains(string(log), "LEAK") || strings.Contains(string(log), canary) {
			t.Errorf("agent log, %v:\n%s", err, log)
		}
		if _, err := os.Stat(filepath.Join(l.Dir, state.WorkspaceDir, "written")); err != nil {
			t.Errorf("the workspace was not written: %v", err)
		}
	})
}

// Stopping takes down what the agent left running, and the host's pid that was
// reported is the right one.
func TestConfinedStop(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		l := confined(t, tier, "bash", "-c", `setsid sleep 600 & echo up; exec sleep 601`)
		write(t, l)
		g := serve(t, l.GatewaySocket, &inferencev1.GetInferenceBundleResponse{})
		r := begin(t, l, box.Start)
		if !r.ready.OK {
			t.Fatalf("ready line %+v", r.ready)
		}
		g.said(t, "agent: up")
		s := <-g.states
		for s.GetMain().GetState() != "running" {
			s = <-g.states
		}
		pid := int(s.GetMain().GetPid())
		if pid == 0 || syscall.Kill(pid, 0) != nil {
			t.Fatalf("pid %d is nobody's", pid)
		}
		if code := r.end(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is still there", pid)
		}
		if _, left := find(t, "sleep\x00600\x00", l.ID); left {
			t.Error("what the agent left running is still there")
		}
	})
}

// find looks for a process by command line and sandbox.
func find(t *testing.T, cmdline, id string) (string, bool) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		command, _ := os.ReadFile(p + "/cmdline")
		environment, _ := os.ReadFile(p + "/environ")
		if string(command) == cmdline && strings.Contains(string(environment), id) {
			return p, true
		}
	}
	return "", false
}

// Commands and shells over SSH work inside a real Box, with and without a
// terminal.
func TestConfinedCommands(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		l := confined(t, tier, "sleep", "600")
		_, document, err := parseLaunch(must(marshal(l)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := box.Start(t.Context(), l.Executable, profile(l, document))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		env, err := environment(l, b, "/bin/bash", nil, false)
		if err != nil {
			t.Fatal(err)
		}
		server, err := sshd.New(sshd.Config{Box: b, Env: env, Shell: "/bin/bash", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("unix", filepath.Join(l.Dir, "ssh"))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := listener.Accept(); err == nil {
				server.Serve(context.WithoutCancel(t.Context()), c)
			}
		}()
		client, err := ssh.Dial("unix", listener.Addr().String(), &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = client.Close()
			<-done
		}()
		run := func(command string, tty bool) string {
			t.Helper()
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if tty {
				if err := s.RequestPty("xterm", 33, 99, nil); err != nil {
					t.Fatal(err)
				}
			}
			out, err := s.CombinedOutput(command)
			if err != nil {
				t.Errorf("%s: %v, %q", command, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		if got := run(`echo "$CREEL_SANDBOX $CREEL_SANDBOX_ID"`, false); got != "demo "+l.ID {
			t.Errorf("got %q", got)
		}
		if got := run(`stty size; test -t 0 && test -t 1 && echo terminal`, true); got != "33 99\r\nterminal" {
			t.Errorf("got %q", got)
		}
		// The command has ended although what it left behind holds its terminal or pipes.
		if got := run(`nohup sleep 600 & echo left`, false); !strings.Contains(got, "left") {
			t.Errorf("got %q", got)
		}
		if got := run(`trap '' HUP; sleep 600 & echo left`, true); !strings.Contains(got, "left") {
			t.Errorf("got %q", got)
		}
		// A shell's command is one argument, for which the kernel has a limit of its own.
		if s, err := client.NewSession(); err != nil {
			t.Error(err)
		} else {
			out, err := s.CombinedOutput("true " + strings.Repeat("x", 140<<10))
			if exit := (*ssh.ExitError)(nil); !errors.As(err, &exit) || exit.ExitStatus() != 126 || !strings.Contains(string(out), "the kernel takes at most 131071") {
				t.Errorf("a command of 140 KiB: %v, %q", err, out)
			}
		}
		extra := must(marshal(sshd.ExecRequest{Command: []string{"no-such-program"}}))
		channel, requests, err := client.OpenChannel(sshd.ExecChannel, extra)
		if err != nil {
			t.Fatal(err)
		}
		code := uint32(0)
		for q := range requests {
			if q.Type == "exit-status" {
				code = uint32(q.Payload[3])
			}
		}
		if _ = channel.Close(); code != 127 {
			t.Errorf("a missing program exits with %d", code)
		}
	})
}

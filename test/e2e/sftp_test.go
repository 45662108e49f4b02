package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	openshellv1 "creel/api/openshell/v1"
	"creel/test/require"
)

// sshProxy in the environment makes this test program what OpenSSH runs to reach a
// sandbox: its value is the sandbox's id, its argument the registration.
const sshProxy = "E2E_SSH_PROXY"

// proxy joins standard streams to a sandbox's SSH server as OpenShell clients do,
// with nothing but what the registration holds.
func proxy(ctx context.Context, registration, id string) error {
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(registration, name))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return content
	}
	var where struct {
		Endpoint string `json:"gateway_endpoint"`
	}
	if err := json.Unmarshal(read("metadata.json"), &where); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(read("mtls/tls.crt"), read("mtls/tls.key"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read("mtls/ca.crt"))
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(where.Endpoint, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots})))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	api := openshellv1.NewOpenShellClient(conn)
	session, err := api.CreateSshSession(ctx, &openshellv1.CreateSshSessionRequest{SandboxId: id})
	if err != nil {
		return err
	}
	stream, err := api.ForwardTcp(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&openshellv1.TcpForwardFrame{Payload: &openshellv1.TcpForwardFrame_Init{Init: &openshellv1.TcpForwardInit{
		SandboxId: id, AuthorizationToken: session.GetToken(), Target: &openshellv1.TcpForwardInit_Ssh{Ssh: &openshellv1.SshRelayTarget{}}}}}); err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := os.Stdin.Read(buffer)
			if n > 0 && stream.Send(&openshellv1.TcpForwardFrame{Payload: &openshellv1.TcpForwardFrame_Data{Data: bytes.Clone(buffer[:n])}}) != nil {
				return
			}
			if err != nil {
				_ = stream.CloseSend()
				return
			}
		}
	}()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			_, err = os.Stdout.Write(frame.GetData())
		}
		if err != nil {
			return err
		}
	}
}

func runProxy(id string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := proxy(ctx, os.Args[1], id); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		return 1
	}
	return 0
}

// sftp runs OpenSSH's own client against a sandbox.
func (h *home) sftp(id, batch string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	registration := filepath.Join(h.dir, "config", "openshell", "gateways", "creel")
	cmd := exec.CommandContext(ctx, "sftp", "-q", "-F", "/dev/null", "-b", "-", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", fmt.Sprintf("ProxyCommand=env %s=%s %s %s", sshProxy, id, os.Args[0], registration), "sandbox@claw")
	cmd.Stdin = strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	h.output.Write(out)
	return string(out), err
}

// testSFTP: the whole way of an OpenShell client, with OpenSSH's client at one end
// and its sftp-server at the other, inside the sandbox.
func testSFTP(t *testing.T) {
	_, client := exec.LookPath("sftp")
	server := false
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			server = true
		}
	}
	require.Feature(t, "sftp", client == nil && server, "install Debian's packages openssh-client and openssh-sftp-server")
	for _, tier := range []string{"namespaces", "landlock"} {
		t.Run(tier, func(t *testing.T) {
			h := newHome(t)
			r := h.run("onboard", "--yes", "--provider", "none", "--confinement", tier)
			require.Feature(t, map[string]string{"namespaces": "userns", "landlock": "landlock"}[tier],
				!strings.Contains(r.stderr, "confinement-unavailable"), r.stderr)
			if r.code != 0 && r.code != 3 {
				t.Fatalf("onboard: exit %d\n%s%s%s", r.code, r.stdout, r.stderr, h.logs())
			}
			l := decode[listDocument](t, h.must(0, "list", "--json"))
			id := l.Sandboxes[0].ID
			workspace := filepath.Join(h.dir, "state", "gateways", "creel", "sandboxes", id, "workspace")
			local := t.TempDir()
			content := make([]byte, 3<<20) // more than any window or buffer on the way
			_, _ = rand.Read(content)
			if err := os.WriteFile(filepath.Join(local, "a file"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			secret := filepath.Join(h.dir, "secret")
			if err := os.WriteFile(secret, []byte("a secret of the host"), 0o644); err != nil {
				t.Fatal(err)
			}
			batch := fmt.Sprintf(`lcd "%s"
mkdir sub
put "a file" sub/there
rename sub/there sub/moved
get sub/moved back
-get %s stolen
-put back /usr/planted
-get /etc/shadow shadow
symlink /nowhere link
rm link
ls -l sub
bye
`, local, secret)
			out, err := h.sftp(id, batch)
			if tier == "landlock" && os.Geteuid() == 0 {
				// Root's sandboxes are users of their own, whom only a private /etc can name.
				if err == nil || !strings.Contains(out, "No user found for uid") {
					t.Errorf("sftp-server serves a user without a name: %v\n%s", err, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("sftp: %v\n%s\n%s", err, out, h.logs())
			}
			for what, path := range map[string]string{"fetched": filepath.Join(local, "back"), "in the workspace": filepath.Join(workspace, "sub", "moved")} {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
					t.Errorf("what is %s has %d bytes, %v; sent were %d", what, len(got), err, len(content))
				}
			}
			for _, path := range []string{filepath.Join(local, "stolen"), filepath.Join(local, "shadow"), "/usr/planted", filepath.Join(workspace, "link")} {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s exists: %v\n%s", path, err, out)
				}
			}
			if !strings.Contains(out, "moved") {
				t.Errorf("ls does not show the file:\n%s", out)
			}
		})
	}
}

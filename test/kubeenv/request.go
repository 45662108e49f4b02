package kubeenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const requestLimit = 30 * time.Second

// Do sends a request as the admin and returns the answer's status and body. The
// path is as in "/api/v1/namespaces/default/secrets"; body is nil, a string or
// []byte sent as they are, or what is marshalled to JSON; the body of a PATCH is
// a JSON merge patch. No answer within 30 s fails the test.
func (c *Cluster) Do(t testing.TB, method, path string, body any) (status int, answer []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	status, answer, err := c.Request(ctx, method, path, body)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.Fatalf("%v\n%s", err, c.api.tail())
	}
	return status, answer
}

// Must is Do for what has to succeed: any status but 2xx fails the test.
func (c *Cluster) Must(t testing.TB, method, path string, body any) []byte {
	t.Helper()
	status, answer := c.Do(t, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: status %d: %s", method, path, status, answer)
	}
	return answer
}

// Request is Do without a test, for when no answer may come: an error is that of
// the transport or of ctx, never a status.
func (c *Cluster) Request(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	return c.requestAs(ctx, c.AdminToken, method, path, body)
}

func (c *Cluster) requestAs(ctx context.Context, token, method, path string, body any) (int, []byte, error) {
	var content []byte
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	case []byte:
		content = b
	default:
		var err error
		if content, err = json.Marshal(b); err != nil {
			return 0, nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return resp.StatusCode, answer, nil
}

// Kubectl runs the real kubectl as the admin and returns its standard output.
// Another exit code than 0 fails the test. stdin is for "-f -".
func (c *Cluster) Kubectl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*requestLimit)
	defer cancel()
	cmd := c.KubectlCommand(ctx, c.AdminKubeconfig, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// KubectlCommand is kubectl with a kubeconfig, not yet started. It sees nothing
// of the user's environment.
func (c *Cluster) KubectlCommand(ctx context.Context, kubeconfig string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Bin+"/kubectl", args...)
	cmd.Env = []string{"HOME=" + c.dir, "PATH=" + c.Bin, "KUBECONFIG=" + kubeconfig}
	cmd.WaitDelay = time.Second
	return cmd
}

package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A dashboard gets a new token: who is signed in is out and is told what to do, the
// new token opens it, and the old one is nowhere left.
func testRotateToken(t *testing.T) {
	ctx := browser(t)
	h, _ := stack(t)
	old := h.authenticated()
	gate := chromedp.Query("#gate", chromedp.NodeVisible)
	if err := chromedp.Do(ctx, chromedp.Navigate(old), chromedp.Query("#draft", chromedp.NodeVisible)); err != nil {
		t.Fatalf("open with the token: %v\n%s", err, h.logs())
	}
	if r := h.run("dashboard", "claw", "--rotate-token"); r.code != 2 || !strings.Contains(r.stderr, "confirmation-needed") {
		t.Errorf("without consent: exit %d\n%s", r.code, r.stderr)
	}
	_, oldToken, _ := strings.Cut(old, "#token=")
	r := h.must(0, "dashboard", "claw", "--rotate-token", "--yes")
	if strings.Contains(r.stdout+r.stderr, "token=") {
		t.Errorf("a token was printed unasked")
	}
	if err := chromedp.Do(ctx, gate); err != nil {
		t.Errorf("who was signed in is not told: %v\n%s", err, h.logs())
	}
	fresh := h.authenticated()
	if _, token, _ := strings.Cut(fresh, "#token="); token == oldToken {
		t.Fatal("the token is the same")
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(old), gate); err != nil {
		t.Errorf("the old token opens it: %v", err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(fresh), chromedp.Query("#draft", chromedp.NodeVisible), say("pelican"),
		truth(`document.querySelector("#log").innerText.split("pelican").length > 2`)); err != nil {
		t.Errorf("the new token does not open it: %v\n%s", err, h.logs())
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %s", v)
	}
	// Printed it was, because it was asked for; it must be nowhere else.
	h.output.Reset()
	h.secrets = append(h.secrets, oldToken)
	h.noSecrets()
}

// Who rotated a token may go away as soon as the gateway knows of it: the old token
// is out and the new one opens all the same.
func testRotateKilled(t *testing.T) {
	h, _ := stack(t)
	page, old, _ := strings.Cut(h.authenticated(), "#token=")
	cmd := exec.Command(creel, "dashboard", "claw", "--rotate-token", "--yes")
	cmd.Env = h.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway knows of it", func() bool { return strings.Contains(h.logs(), "dashboard token rotated") })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	var fresh string
	eventually(t, "the dashboard opens again", func() bool {
		r := h.run("dashboard", "claw", "--show-token")
		_, fresh, _ = strings.Cut(strings.TrimSpace(r.stdout), "#token=")
		return r.code == 0 && fresh != ""
	})
	if fresh == old {
		t.Fatal("the token is the same")
	}
	for token, want := range map[string]int{old: http.StatusUnauthorized, fresh: http.StatusOK} {
		if got := status(t, http.DefaultClient, page+"api/info", "", http.Header{"Authorization": {"Bearer " + token}}); got != want {
			t.Errorf("status %d, want %d; the new token: %v", got, want, token == fresh)
		}
	}
}

package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"creel/test/require"
)

// browser starts a real Chromium with a profile of its own.
func browser(t testing.TB, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	require.Feature(t, "chromium", path != "", "install Debian's package chromium")
	profile, err := os.MkdirTemp("", "creel-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.WindowSize(1200, 800),
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	options = append(options, more...)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	ctx, bound := context.WithTimeout(ctx, 60*time.Second)
	t.Cleanup(func() {
		bound()
		cancel()
		stop()
		// The browser's last processes may still be writing when it has ended.
		for range 50 {
			if err := os.RemoveAll(profile); err == nil || errors.Is(err, fs.ErrNotExist) {
				return
			}
		}
	})
	return ctx
}

// authenticated is the dashboard's URL with its token, as `creel dashboard
// --show-token` gives it to a person.
func (h *home) authenticated() string {
	h.t.Helper()
	url := strings.TrimSpace(h.must(0, "dashboard", "claw", "--show-token").stdout)
	if !strings.Contains(url, "#token=") {
		h.t.Fatalf("no token in %q although it was asked for", url)
	}
	return url
}

func testBrowser(t *testing.T) {
	ctx := browser(t)
	h, _ := stack(t)
	url := h.authenticated()
	err := chromedp.Do(ctx,
		chromedp.Navigate(url),
		say("pelican"),
		answered("pelican"),
	)
	if err != nil {
		t.Fatalf("chat in the browser: %v\n%s", err, h.logs())
	}
	address, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(address, "token") {
		t.Errorf("the token stays in the address bar: %s", address)
	}
	h.must(0, "gateway", "restart")
	err = chromedp.Do(ctx,
		say("heron"),
		answered("heron"),
	)
	if err != nil {
		t.Fatalf("chat after a restart of the gateway: %v\n%s", err, h.logs())
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(strings.Split(url, "#")[0]+"#token=wrong"), chromedp.Query("#gate", chromedp.NodeVisible)); err != nil {
		t.Errorf("a wrong token shows no explanation: %v", err)
	}
}

// truth waits until an expression holds in the page.
func truth(expression string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Poll[any](expression, chromedp.WithPollingTimeout(20*time.Second))(ctx, t)
		return chromedp.Void{}, err
	}
}

// answered waits until the question was answered: the provider repeats it.
func answered(text string) chromedp.Action[chromedp.Void] {
	return truth(`document.querySelector("#log").innerText.split("` + text + `").length > 2`)
}

// say writes a message and sends it. The page keeps the draft while it is
// connecting, so it is sent until it is gone.
func say(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.Query("#draft", chromedp.NodeVisible),
		chromedp.SendKeys("#draft", text),
		truth(`(() => { const d = document.querySelector("#draft"); if (d.value) document.querySelector("#composer").requestSubmit(); return !d.value })()`),
	)
}

package console

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/test/openaitest"
	"creel/test/require"
)

// browser is a real Chromium with one tab, and what it complained about.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

func chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.Feature(t, "chromium", false, "install the package chromium")
	return ""
}

func newBrowser(t testing.TB, flags ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	options := append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 800), chromedp.NoFirstRun,
		chromedp.Flag("headless", "new"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(30 * time.Second),
	}, flags...)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.hear))
	t.Cleanup(func() {
		// Cancel waits for the browser to end, so that its directory can go.
		if err := chromedp.Cancel(b.ctx); err != nil {
			t.Logf("end browser: %v", err)
		}
		cancel()
	})
	// The first call must not be bounded: the browser ends with its context.
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{cdplog.Enable, runtime.Enable} {
		if _, err := chromedp.Call(b.ctx, enable, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// hear collects in the order in which things happen.
func (b *browser) hear(ev any) {
	switch e := ev.(type) {
	case *cdplog.EventEntryAdded:
		b.complain(string(e.Entry.Level), e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		var args []string
		for _, a := range e.Args {
			args = append(args, string(a.Value)+a.Description)
		}
		b.complain(string(e.Type), strings.Join(args, " "))
	case *runtime.EventExceptionThrown:
		b.complain("exception", e.ExceptionDetails.Text)
	}
}

func (b *browser) complain(level, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, level+": "+text)
}

// quiet fails when the browser complained about anything but what is allowed.
func (b *browser) quiet(allowed ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(c, a) }) {
			b.t.Errorf("the browser says %s", c)
		}
	}
	b.complaints = nil
}

type void = chromedp.Void

func (b *browser) run(actions ...chromedp.Action[void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		b.t.Fatalf("%v\nthe page shows: %s", err, text)
	}
}

// value evaluates an expression in the page.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for a condition in the page, across navigations.
func (b *browser) until(condition string) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			b.t.Fatalf("not so: %s (%v)\nthe page shows: %s", condition, err, value[string](b, "document.body.innerText"))
		}
	}
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	return value[string](b, fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '')", selector))
}

func (b *browser) typeIn(text string) chromedp.Action[void] {
	return chromedp.SendKeys(chromedp.CSS("#draft"), text)
}

func (b *browser) click(selector string) chromedp.Action[void] {
	return chromedp.Click(chromedp.CSS(selector))
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.run(chromedp.Navigate(url))
}

const ready = `document.body.dataset.ready === 'yes' && document.querySelector('#model').dataset.state !== 'asking'`

func (i *instance) private() string { return i.url("/#token=" + testToken) }

func TestBrowserChat(t *testing.T) {
	model := openaitest.Start(t)
	model.SetReply(func(string) []string {
		return []string{"## Title\n\nSome **bold** and `code`", " <img src=x onerror=alert(1)>\n\n```go\nfunc main() {}\n", "```\n\n- one\n- two\n\n[bad](javascript:alert(1)) [good](https://example.com/)"}
	})
	i := start(t, t.TempDir(), model.URL)
	b := newBrowser(t)
	b.open(i.private())
	b.until(ready)

	address, stored := value[string](b, "location.href"), value[string](b, `sessionStorage.getItem('creel.token') + '|' + localStorage.length`)
	if strings.Contains(address, "token") || strings.Contains(address, "#") {
		t.Errorf("the address bar shows %s", address)
	}
	if stored != testToken+"|0" {
		t.Errorf("storage = %q", stored)
	}
	if got := b.text("#model"); !strings.Contains(got, openaitest.DefaultModel) {
		t.Errorf("model: %q", got)
	}
	if got := b.text("#tier"); got != "Confined" {
		t.Errorf("tier: %q", got)
	}

	// Enter sends, Shift+Enter does not.
	b.run(b.typeIn("first line"), chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierShift)))
	if n := b.count(".exchange"); n != 0 {
		t.Fatalf("Shift+Enter sent: %d exchanges", n)
	}
	b.run(b.typeIn("\r"))
	b.until(`document.querySelector('.answer .after .note') !== null`)
	if got := b.text(".bubble"); got != "first line" {
		t.Errorf("question: %q", got)
	}
	want := map[string]int{
		".body h4": 1, ".body strong": 1, ".body p code": 1, ".body figure.code pre code": 1, ".body ul > li": 2,
		".body img": 0, ".body a": 1, `.body a[href="https://example.com/"][rel~="noopener"]`: 1, ".body script": 0,
	}
	for selector, n := range want {
		if got := b.count(selector); got != n {
			t.Errorf("%s: %d, want %d\n%s", selector, got, n, b.text(".body"))
		}
	}
	if got := b.text(".body"); !strings.Contains(got, "<img src=x onerror=alert(1)>") {
		t.Errorf("markup of the model is not shown as text: %s", got)
	}

	// A reload keeps the conversation, without the token in the address.
	b.run(chromedp.Reload())
	b.until(ready)
	if got := b.text("#log"); !strings.Contains(got, "first line") || !strings.Contains(got, "func main()") {
		t.Errorf("after a reload: %q", got)
	}

	// Clearing asks first.
	b.run(b.click("#clear"), chromedp.WaitVisible(chromedp.CSS("#ask-clear")), b.click("#really-clear"))
	b.until(`document.querySelectorAll('.exchange').length === 0 && !document.querySelector('#empty').hidden`)
	b.quiet()
}

func (b *browser) count(selector string) int {
	b.t.Helper()
	return value[int](b, fmt.Sprintf("document.querySelectorAll(%q).length", selector))
}

func TestBrowserStreamsAndStops(t *testing.T) {
	model := openaitest.Start(t)
	model.SetMode(openaitest.SlowStream)
	model.SetReply(func(string) []string { return []string{"alpha ", "beta ", "gamma"} })
	i := start(t, t.TempDir(), model.URL)
	b := newBrowser(t)
	b.open(i.private())
	b.until(ready)
	b.run(b.typeIn("go\r"))
	b.until(`document.querySelector('.streaming .thinking') !== null`)
	for _, want := range []string{"alpha", "beta"} {
		model.Release()
		b.until(fmt.Sprintf(`document.querySelector('.streaming .body').innerText.includes(%q)`, want))
	}
	if got := b.text(".answer"); strings.Contains(got, "gamma") {
		t.Errorf("shown before it was sent: %q", got)
	}
	if n := b.count(`.answer[aria-busy="true"]`); n != 1 {
		t.Errorf("%d answers are marked busy", n)
	}
	b.run(chromedp.KeyEvent("\u001b"))
	b.until(`document.querySelector('.streaming') === null && document.querySelector('.note').innerText.includes('stopped')`)
	if n := b.count(".again"); n != 1 {
		t.Errorf("%d buttons to ask again", n)
	}
	model.SetMode(openaitest.Answer)
	b.run(b.click(".again"))
	b.until(`document.querySelector('.body')?.innerText.includes('gamma') && document.querySelectorAll('.exchange').length === 1`)
	b.quiet()
}

func TestBrowserTokenStates(t *testing.T) {
	i := start(t, t.TempDir(), openaitest.Start(t).URL)
	b := newBrowser(t)
	b.open(i.url("/"))
	b.until(`!document.querySelector('#gate').hidden`)
	if got := b.text("#gate"); !strings.Contains(got, "creel dashboard SANDBOX --open") || !strings.Contains(got, "creel dashboard SANDBOX --show-token") {
		t.Errorf("without token: %q", got)
	}
	b.open(i.private()) // only the fragment differs: the page takes it up
	b.until(ready)
	b.open("about:blank")
	b.open(i.url("/#token=wrong"))
	b.until(`document.querySelector('#gate-title').innerText.includes('not accepted')`)
	if got := b.text("#gate"); !strings.Contains(got, "creel dashboard demo --open") || !strings.Contains(got, "creel dashboard demo --show-token") {
		t.Errorf("with a wrong token: %q", got)
	}
	if stored := value[string](b, `String(sessionStorage.getItem('creel.token'))`); stored != "null" {
		t.Errorf("the wrong token is kept: %q", stored)
	}
	b.quiet()
}

// The agent was given another token: an open page that comes back with the old one
// says so, keeps the draft, and opens again with the new one.
func TestBrowserTokenReplaced(t *testing.T) {
	home, model := t.TempDir(), openaitest.Start(t)
	i := start(t, home, model.URL)
	b := newBrowser(t)
	b.open(i.private())
	b.until(ready)
	b.run(b.typeIn("a half-written thought"))
	i.stop()
	listener, err := net.Listen("tcp4", i.addr)
	if err != nil {
		t.Fatal(err)
	}
	const replaced = "canary-another-token"
	startOn(t, listener, home, model.URL, func(s *settings) { s.token = credential.NewSecret(replaced) })
	b.until(`!document.querySelector('#gate').hidden`)
	if got := b.text("#gate"); !strings.Contains(got, "no longer valid") || !strings.Contains(got, "creel dashboard demo --open") {
		t.Errorf("with an outdated token: %q", got)
	}
	if stored := value[string](b, `String(sessionStorage.getItem('creel.token'))`); stored != "null" {
		t.Errorf("the outdated token is kept: %q", stored)
	}
	b.open(i.url("/#token=" + replaced)) // only the fragment differs
	b.until(`document.querySelector('#gate')?.hidden && document.querySelector('#draft').value === 'a half-written thought' && !document.querySelector('#send').disabled`)
	b.quiet("ERR_CONNECTION_REFUSED", "WebSocket connection to")
}

// Opened by a name that nobody declared, the page says what to do.
func TestBrowserWrongName(t *testing.T) {
	i := start(t, t.TempDir(), openaitest.Start(t).URL)
	b := newBrowser(t)
	b.open(strings.Replace(i.private(), "127.0.0.1", "other.localhost", 1)) // which browsers take for this machine
	if got := b.text("main"); !strings.Contains(got, "not opened by the name") || !strings.Contains(got, "creel dashboard SANDBOX --public-url URL") {
		t.Errorf("the page says %q", got)
	}
	if family := value[string](b, `getComputedStyle(document.querySelector('code')).display`); family != "block" {
		t.Errorf("its style is not applied: %s", family)
	}
	b.quiet("403", "favicon.ico")
}

// Whatever the page needs is asked for together: it is one round trip behind the
// page itself, on a connection of any latency.
func TestBrowserLoadsInOneRoundTrip(t *testing.T) {
	i := start(t, t.TempDir(), openaitest.Start(t).URL)
	files, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(i.url(""))
	if err != nil {
		t.Fatal(err)
	}
	// An answer to any of the files waits until all of them were asked for.
	var mu sync.Mutex
	asked := map[string]bool{}
	all := make(chan struct{})
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := path.Base(r.URL.Path); strings.HasPrefix(r.URL.Path, "/assets/") {
			mu.Lock()
			if asked[name] = true; len(asked) == len(files.files) {
				close(all)
			}
			mu.Unlock()
			select {
			case <-all:
			case <-r.Context().Done():
				return
			case <-time.After(patienceOfTest):
				http.Error(w, "the other files were not asked for", http.StatusInternalServerError)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	b := newBrowser(t)
	b.open(server.URL + "/#token=" + testToken)
	b.until(ready)
	b.quiet()
	// A second visit asks for the page alone.
	b.run(chromedp.Reload())
	b.until(ready)
	if n := value[int](b, `performance.getEntriesByType('resource').filter((e) => e.transferSize > 0).length`); n != 0 {
		t.Errorf("a reload transfers %d files again", n)
	}
}

// The console goes away and comes back, as when the gateway or the agent is
// restarted: the draft stays and the page works again.
func TestBrowserReconnects(t *testing.T) {
	model := openaitest.Start(t)
	home := t.TempDir()
	i := start(t, home, model.URL)
	b := newBrowser(t)
	b.open(i.private())
	b.until(ready)
	b.run(b.typeIn("one\r"))
	b.until(`document.querySelector('.answer .after .note') !== null`)
	b.run(b.typeIn("a half-written thought"))
	i.stop()
	b.until(`!document.querySelector('#strip').hidden && document.querySelector('#send').disabled`)
	startAt(t, i.addr, home, model.URL)
	b.until(`document.querySelector('#strip').hidden && !document.querySelector('#send').disabled`)
	if draft := value[string](b, `document.querySelector('#draft').value`); draft != "a half-written thought" {
		t.Errorf("draft = %q", draft)
	}
	b.run(b.click("#send"))
	b.until(`document.querySelectorAll('.exchange').length === 2 && document.querySelectorAll('.answer .note').length === 2`)
	// That connections were refused meanwhile is what this test is about.
	b.quiet("ERR_CONNECTION_REFUSED", "WebSocket connection to")
}

func TestBrowserWithoutModel(t *testing.T) {
	var mu sync.Mutex
	set := false
	url := relayWith(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !set {
			noModel(w, r)
			return
		}
		fmt.Fprint(w, `{"data":[{"id":"fresh-model"}]}`)
	})
	i := start(t, t.TempDir(), url)
	b := newBrowser(t)
	b.open(i.private())
	b.until(`!document.querySelector('#no-model').hidden`)
	if got := b.text("#no-model"); !strings.Contains(got, "creel inference set --provider") {
		t.Errorf("without a model: %q", got)
	}
	mu.Lock()
	set = true
	mu.Unlock()
	b.until(`document.querySelector('#no-model').hidden && document.querySelector('#model-name').innerText === 'fresh-model'`)
	b.quiet()
}

func TestBrowserShowsConfinement(t *testing.T) {
	i := start(t, t.TempDir(), openaitest.Start(t).URL, func(s *settings) { s.confinement = degraded })
	b := newBrowser(t)
	b.open(i.private())
	b.until(ready)
	b.run(b.click("#open-details"), chromedp.WaitVisible(chromedp.CSS("#details")))
	got := b.text("#details")
	for _, want := range []string{"Partly confined", degraded.Reason, "network namespace", "policy", "4f9d2c7a11be0395"} {
		if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
			t.Errorf("the details lack %q: %s", want, got)
		}
	}
	if on, off := b.count("#protections .on"), b.count("#protections .off"); on != 3 || off != 2 {
		t.Errorf("%d protections on, %d off", on, off)
	}
	b.run(chromedp.KeyEvent("\u001b"))
	b.until(`!document.querySelector('#details').open`)
	b.quiet()
}

// What somebody needs who sees badly, uses no mouse or has a small screen.
func TestBrowserAccessibility(t *testing.T) {
	model := openaitest.Start(t)
	model.SetReply(func(string) []string {
		return []string{longAnswer, "\n\n" + strings.Repeat("unbroken", 60) + "\n\n```\n" + strings.Repeat("wide ", 80) + "\n```"}
	})
	i := start(t, t.TempDir(), model.URL)
	b := newBrowser(t)
	b.run(chromedp.EmulateViewport(360, 740))
	b.open(i.private())
	b.until(ready)
	b.run(b.typeIn("long\r"))
	b.until(`document.querySelector('.answer .after .note') !== null`)
	if wide, have := value[int](b, `document.scrollingElement.scrollWidth`), value[int](b, `innerWidth`); wide > have {
		t.Errorf("the page is %d pixels wide on a screen of %d", wide, have)
	}
	unnamed := value[[]string](b, `[...document.querySelectorAll('button, textarea, a, [role=region], dialog')]
		.filter((n) => !(n.getAttribute('aria-label') || n.innerText?.trim() || n.textContent.trim() || n.labels?.length || document.getElementById(n.getAttribute('aria-labelledby'))))
		.map((n) => n.outerHTML.slice(0, 80))`)
	if len(unnamed) > 0 {
		t.Errorf("without a name: %q", unnamed)
	}
	if got := value[string](b, `[...document.querySelectorAll('main, header.top, [role=log][aria-live=polite], [role=status]')].map((n) => n.tagName).join(' ')`); got != "HEADER DIV MAIN SECTION P" {
		t.Errorf("landmarks and live regions: %s", got)
	}
	for _, theme := range []string{"light", "dark"} {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
			t.Fatal(err)
		}
		// WCAG 2: contrast of text is at least 4.5.
		low := value[[]string](b, `(() => {
			const style = getComputedStyle(document.documentElement);
			const light = (name) => {
				const c = document.createElement('canvas').getContext('2d');
				c.fillStyle = style.getPropertyValue('--' + name).trim();
				const v = [1, 3, 5].map((i) => parseInt(c.fillStyle.slice(i, i + 2), 16) / 255).map((x) => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
				return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2];
			};
			const low = [];
			for (const [text, grounds] of Object.entries({
				ink: ['bg', 'raised', 'sunk', 'tint', 'bad-tint', 'ok-tint', 'warn-tint'], muted: ['bg', 'raised'], accent: ['bg', 'raised', 'tint'], 'on-accent': ['accent', 'accent-hover'],
				ok: ['ok-tint'], warn: ['warn-tint'], bad: ['bad-tint'], raised: ['bad'],
				'tok-comment': ['raised'], 'tok-string': ['raised'], 'tok-number': ['raised'], 'tok-word': ['raised'], 'tok-call': ['raised'],
			})) for (const ground of grounds) {
				const [a, z] = [light(text), light(ground)].sort((x, y) => y - x);
				const ratio = (a + 0.05) / (z + 0.05);
				if (!(ratio >= 4.5)) low.push(text + ' on ' + ground + ': ' + ratio.toFixed(2));
			}
			return low;
		})()`)
		if len(low) > 0 {
			t.Errorf("%s: too little contrast: %q", theme, low)
		}
	}
	if n := value[int](b, `document.getAnimations().length`); n != 0 {
		t.Errorf("%d animations although the user wants none", n)
	}
	b.quiet()
}

var degraded = sandbox.Confinement{
	Tier: sandbox.TierLandlock, Reason: "user namespaces are not permitted here (kernel.apparmor_restrict_unprivileged_userns is 1)",
	Protections: []sandbox.Protection{
		{Name: "user namespace", On: false, Detail: "not permitted on this machine"},
		{Name: "network namespace", On: false, Detail: "TCP is limited by Landlock instead"},
		{Name: "Landlock files", On: true, Detail: "ABI 7"},
		{Name: "Landlock TCP", On: true, Detail: "connect to 8787 only, bind 18789 only"},
		{Name: "seccomp", On: true, Detail: "UDP, raw and Unix sockets refused"},
	},
}

func startAt(t *testing.T, addr, home, relayURL string) *instance {
	t.Helper()
	listener, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, listener, home, relayURL)
}

// TestScreenshots writes pictures of the page's states into the directory that
// CREEL_TEST_SCREENSHOTS names, for people to look at.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("CREEL_TEST_SCREENSHOTS")
	if dir == "" {
		t.Skip("set CREEL_TEST_SCREENSHOTS to a directory to get pictures of the page")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dark := range []bool{false, true} {
		for _, size := range [][2]int64{{1440, 900}, {360, 740}} {
			theme := map[bool]string{false: "light", true: "dark"}[dark]
			shots(t, filepath.Join(dir, fmt.Sprintf("%s-%d", theme, size[0])), theme, size)
		}
	}
}

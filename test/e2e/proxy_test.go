package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"creel/test/nginxenv"
	"creel/test/openaitest"
)

// accessDocument is what `creel dashboard --json` prints.
type accessDocument struct {
	Verdict        string   `json:"verdict"`
	URL            string   `json:"url"`
	Situation      []string `json:"situation"`
	Tunnel         string   `json:"tunnel"`
	Port           int      `json:"port"`
	Bind           string   `json:"bind"`
	PublicURL      string   `json:"public_url"`
	TrustedProxies []string `json:"trusted_proxies"`
	Reason         string   `json:"reason"`
	Message        string   `json:"message"`
	Evidence       []struct {
		Probe   string `json:"probe"`
		Answer  string `json:"answer"`
		Verdict string `json:"verdict"`
	} `json:"evidence"`
	Caveats []struct {
		Advisory string `json:"advisory"`
	} `json:"caveats"`
}

// link is the verdict on one link of the proof.
func (d accessDocument) link(probe string) string {
	for _, e := range d.Evidence {
		if e.Probe == probe {
			return e.Verdict
		}
	}
	return "not asked"
}

// documentedProxies are the configurations of nginx in the user's page.
func documentedProxies(t testing.TB) (root, below string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/dashboard.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/dashboard.md has %d configurations of nginx", len(blocks))
	}
	return blocks[0][1], blocks[1][1]
}

// here makes a documented configuration one for this test.
func here(configuration string, port int) string {
	return strings.NewReplacer("443 ssl", "LISTEN", "agent.example;", "localhost;", "/etc/ssl/agent.example.crt", "CERTIFICATE",
		"/etc/ssl/agent.example.key", "KEY", "127.0.0.1:18789", fmt.Sprintf("127.0.0.1:%d", port)).Replace(configuration)
}

// trusting is a client that trusts a server's certificate and comes from an
// address of its own.
func trusting(t testing.TB, s *nginxenv.Server, from string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if s != nil {
		text, err := os.ReadFile(s.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		roots.AppendCertsFromPEM(text)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp4", address) // "localhost" may be IPv6 first
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// status asks with headers and returns the status.
func status(t testing.TB, c *http.Client, url, host string, header http.Header) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.Header = host, header
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// shake opens a WebSocket as a page of origin and returns the status.
func shake(t testing.TB, c *http.Client, url, origin string) int {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: c, HTTPHeader: http.Header{"Origin": {origin}}})
	if conn != nil {
		_ = conn.CloseNow()
	}
	if resp == nil {
		t.Fatalf("WebSocket %s: %v", url, err)
	}
	return resp.StatusCode
}

// A real nginx in front, as the user's page configures it: at a name of its own,
// and below a path that it takes off or passes on.
func testDashboardProxy(t *testing.T) {
	h, provider := stack(t)
	port := decode[accessDocument](t, h.must(0, "dashboard", "--json")).Port
	pid := h.agentPID()
	root, below := documentedProxies(t)
	root, below = here(root, port), here(below, port)
	unstripped := strings.Replace(below, fmt.Sprintf("127.0.0.1:%d/;", port), fmt.Sprintf("127.0.0.1:%d;", port), 1)
	if unstripped == below {
		t.Fatal("the path is not taken off as documented")
	}
	variants := []struct{ name, configuration, path string }{
		{"at a name of its own", root, ""}, {"below a path that is taken off", below, "/claw/"}, {"below a path that is passed on", unstripped, "/claw"},
	}
	t.Run("declared", func(t *testing.T) { h.in(t).testDeclared(port) })
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			h := h.in(t)
			l := nginxenv.Port(t)
			s := nginxenv.Start(t, l, v.configuration)
			url := fmt.Sprintf("https://localhost:%d%s", s.Port, v.path)
			r := h.runProgram(creel, []string{"SSL_CERT_FILE=" + s.Certificate}, "dashboard", "claw", "--json", "--bind", "127.0.0.1", "--public-url", url, "--trusted-proxies", "127.0.0.1")
			d := decode[accessDocument](t, r)
			if r.code != 0 || d.Verdict != "ok" || strings.TrimSuffix(d.URL, "/") != strings.TrimSuffix(url, "/") || !slices.Contains(d.Situation, "proxy") || d.Bind != "127.0.0.1" || len(d.Caveats) != 0 {
				t.Fatalf("exit %d, %+v\n%s", r.code, d, r.stderr)
			}
			for _, link := range []string{"websocket with the public URL's origin", "page at the public URL", "websocket at the public URL", "websocket at the public URL with another origin"} {
				if v := d.link(link); v != "ok" {
					t.Errorf("%s: %s", link, v)
				}
			}
			c, base := trusting(t, s, "127.0.0.2"), strings.TrimSuffix(url, "/")
			if got := status(t, c, base+"/", "", nil); got != http.StatusOK {
				t.Errorf("the page: status %d", got)
			}
			if v.path != "" {
				if got := status(t, c, base, "", nil); got != http.StatusMovedPermanently && got != http.StatusPermanentRedirect {
					t.Errorf("the path without its slash: status %d", got)
				}
			}
			origin := fmt.Sprintf("https://localhost:%d", s.Port)
			socket := "wss" + strings.TrimPrefix(base, "https") + "/ws"
			if got := shake(t, c, socket, origin); got != http.StatusSwitchingProtocols {
				t.Errorf("the page's WebSocket: status %d", got)
			}
			for _, other := range []string{"https://evil.example", "http://localhost:" + fmt.Sprint(s.Port), "https://localhost"} {
				if got := shake(t, c, socket, other); got != http.StatusForbidden {
					t.Errorf("a WebSocket from %s: status %d", other, got)
				}
			}
		})
	}
	if now := h.agentPID(); now != pid {
		t.Errorf("the agent was started again: pid %d, then %d", pid, now)
	}

	t.Run("forwarded headers", func(t *testing.T) { h.in(t).testForwarded(root, port) })
	t.Run("what is wrong with a proxy is said", func(t *testing.T) { h.in(t).testBrokenProxies(root, port) })
	t.Run("browser", func(t *testing.T) {
		h := h.in(t)
		l := nginxenv.Port(t)
		server := nginxenv.Start(t, l, below)
		url := fmt.Sprintf("https://localhost:%d/claw/", server.Port)
		h.must(0, "dashboard", "claw", "--public-url", url)
		h.testBrowserBehind(provider, url)
	})
}

// What is declared is in force at once and shown, and what is found of the session
// decides which URL is printed.
func (h *home) testDeclared(port int) {
	t := h.t
	t.Helper()
	ask := func(code int, environment []string, args ...string) accessDocument {
		t.Helper()
		r := h.runProgram(creel, environment, append([]string{"dashboard", "claw", "--json"}, args...)...)
		if r.code != code {
			t.Fatalf("creel dashboard %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
		}
		d := decode[accessDocument](t, r)
		for _, e := range d.Evidence {
			if code == 0 && e.Verdict != "ok" {
				t.Errorf("%s: %s", e.Probe, e.Answer)
			}
		}
		return d
	}
	// Another address of loopback tells a wide listener from a narrow one.
	reachable := func() bool {
		c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.2:%d", port), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	local := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if d := ask(0, nil); d.URL != local || d.Bind != "127.0.0.1" || d.Tunnel != "" || reachable() {
		t.Errorf("by default: %+v, reachable %v", d, reachable())
	}
	d := ask(0, []string{"SSH_CONNECTION=203.0.113.9 50000 192.0.2.7 2222", "SSH_TTY=/dev/pts/9"})
	if want := fmt.Sprintf("ssh -L %[1]d:127.0.0.1:%[1]d -p 2222 ", port); d.URL != local || !slices.Contains(d.Situation, "ssh") || !strings.HasPrefix(d.Tunnel, want) || !strings.HasSuffix(d.Tunnel, "@192.0.2.7") {
		t.Errorf("over SSH: %+v", d)
	}
	if d := ask(0, nil, "--bind", "0.0.0.0"); d.Bind != "0.0.0.0" || !slices.Contains(d.Situation, "wide") || !reachable() {
		t.Errorf("bound wide: %+v, reachable %v", d, reachable())
	}
	if r := h.run("status"); r.code != 3 || !strings.Contains(r.stdout, "dashboard-exposed") {
		t.Errorf("status of a wide listener: exit %d\n%s", r.code, r.stdout)
	}
	h.must(0, "gateway", "restart")
	if !reachable() {
		t.Error("the wide listener did not come back with the gateway")
	}
	if d := ask(0, []string{"WSL_DISTRO_NAME=Debian"}); !slices.Contains(d.Situation, "wsl") {
		t.Errorf("on WSL: %+v", d)
	}
	if d := ask(0, nil, "--bind", "127.0.0.1"); d.Bind != "127.0.0.1" || reachable() {
		t.Errorf("narrow again: %+v, reachable %v", d, reachable())
	}
	// A taken port leaves everything as it was, and its holder is named.
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := h.must(1, "dashboard", "claw", "--port", fmt.Sprint(taken.Addr().(*net.TCPAddr).Port))
	if !strings.Contains(r.stderr, "dashboard-port-taken") || !strings.Contains(r.stderr, fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("a taken port:\n%s", r.stderr)
	}
	if d := ask(0, nil); d.Port != port {
		t.Errorf("after the taken port: %+v", d)
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %q in the end", v)
	}
}

// Who is counted for a wrong token, and what an undeclared peer's headers change:
// nothing.
func (h *home) testForwarded(root string, port int) {
	t := h.t
	t.Helper()
	s := nginxenv.Start(t, nginxenv.Port(t), root)
	public := fmt.Sprintf("https://localhost:%d", s.Port)
	direct := fmt.Sprintf("http://127.0.0.1:%d", port)
	spoof := http.Header{"X-Forwarded-For": {"203.0.113.66"}, "X-Forwarded-Host": {strings.TrimPrefix(public, "https://")}, "X-Forwarded-Proto": {"https"}}
	wrong := func(c *http.Client, base string) {
		t.Helper()
		header := spoof.Clone()
		header.Set("Authorization", "Bearer wrong")
		if got := status(t, c, base+"/api/info", "", header); got != http.StatusUnauthorized {
			t.Errorf("a wrong token: status %d", got)
		}
	}
	named := func(address string) {
		t.Helper()
		eventually(t, "the log names "+address, func() bool {
			return strings.Contains(h.must(0, "logs", "claw", "-n", "50").stdout, "a wrong token was shown from "+address+"\n")
		})
	}
	h.must(0, "dashboard", "claw", "--public-url", public, "--trusted-proxies", "127.0.0.1")
	wrong(trusting(t, s, "127.0.0.2"), public)
	named("127.0.0.2")
	wrong(trusting(t, nil, "127.0.0.3"), direct)
	named("127.0.0.3")
	// An undeclared peer cannot make another name pass, nor another origin.
	evil := spoof.Clone()
	if got := status(t, trusting(t, nil, "127.0.0.3"), direct+"/", "evil.example", evil); got != http.StatusForbidden {
		t.Errorf("another name with spoofed headers: status %d", got)
	}
	h.must(0, "dashboard", "claw", "--trusted-proxies", "")
	wrong(trusting(t, s, "127.0.0.4"), public)
	named("127.0.0.1") // the proxy itself: it is not declared
	if log := h.must(0, "logs", "claw", "-n", "50").stdout; strings.Contains(log, "203.0.113.66") || strings.Contains(log, "Bearer") {
		t.Errorf("a spoofed address or a token is in the log:\n%s", log)
	}
}

// A proxy that does not do what it must is a failure that names what it is.
func (h *home) testBrokenProxies(root string, port int) {
	t := h.t
	t.Helper()
	for _, c := range []struct{ name, from, to, reason string }{
		{"no WebSockets", "proxy_set_header Upgrade $http_upgrade;", "", "dashboard-proxy-websocket"},
		{"another port", fmt.Sprintf("127.0.0.1:%d", port), "127.0.0.1:9", "dashboard-proxy"},
		{"another name", "$http_host", "other.example", "dashboard-proxy"},
	} {
		broken := strings.ReplaceAll(root, c.from, c.to)
		if broken == root {
			t.Fatalf("%s: there is nothing to break", c.name)
		}
		s := nginxenv.Start(t, nginxenv.Port(t), broken)
		r := h.runProgram(creel, []string{"SSL_CERT_FILE=" + s.Certificate}, "dashboard", "claw", "--json", "--public-url", fmt.Sprintf("https://localhost:%d", s.Port))
		if d := decode[accessDocument](t, r); r.code != 1 || d.Reason != c.reason {
			t.Errorf("%s: exit %d, reason %q: %s", c.name, r.code, d.Reason, d.Message)
		}
		// What is not trusted here is not known to be broken.
		if d := decode[accessDocument](t, h.must(0, "dashboard", "claw", "--json")); len(d.Caveats) != 1 || d.Caveats[0].Advisory != "dashboard-public-unreachable" {
			t.Errorf("%s: without its authority: %+v", c.name, d.Caveats)
		}
	}
}

// A real browser, through TLS and below a path.
func (h *home) testBrowserBehind(provider *openaitest.Server, url string) {
	t := h.t
	t.Helper()
	ctx := browser(t, chromedp.Flag("ignore-certificate-errors", true))
	opened := h.authenticated()
	if !strings.HasPrefix(opened, url+"#token=") {
		t.Fatalf("the URL is %q", strings.Split(opened, "#")[0])
	}
	before := len(provider.Requests())
	if err := chromedp.Do(ctx, chromedp.Navigate(opened), say("pelican"), answered("pelican")); err != nil {
		t.Fatalf("chat through nginx: %v\n%s", err, h.logs())
	}
	if len(provider.Requests()) == before {
		t.Error("the model was not asked")
	}
	h.must(0, "gateway", "restart")
	if err := chromedp.Do(ctx, say("heron"), answered("heron")); err != nil {
		t.Fatalf("chat through nginx after a restart of the gateway: %v\n%s", err, h.logs())
	}
	location, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil || location != url {
		t.Errorf("the address is %q, %v", location, err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(url+"#token=wrong"), truth(`document.querySelector("#gate-command").innerText.includes("creel dashboard claw --open")`)); err != nil {
		t.Errorf("a wrong token does not say what to do: %v", err)
	}
}

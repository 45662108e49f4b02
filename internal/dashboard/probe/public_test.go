package probe

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
)

// front is a proxy in front of a dashboard that a test spoils.
func front(t *testing.T, agent http.Handler, spoil func(http.Handler) http.Handler) (url string) {
	t.Helper()
	if spoil == nil {
		spoil = func(h http.Handler) http.Handler { return h }
	}
	server := httptest.NewServer(spoil(proxyTo(t, serve(t, agent))))
	t.Cleanup(server.Close)
	return server.URL
}

func proxyTo(t *testing.T, port int) http.Handler {
	t.Helper()
	target, err := url.Parse("http://127.0.0.1:" + strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
}

func publicTarget(url string) Target {
	return Target{Host: "127.0.0.1", Port: 1, HealthPath: "/health", WebSocketPath: "/ws", Access: dashboard.Access{PublicURL: url}}
}

func status(code int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
}

func TestPublicURL(t *testing.T) {
	noUpgrade := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Upgrade")
			r.Header.Del("Connection")
			if strings.HasSuffix(r.URL.Path, "/ws") {
				w.WriteHeader(http.StatusUpgradeRequired)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	below := func(h http.Handler) http.Handler { return http.StripPrefix("/claw", h) }
	onlyHealth := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	for _, tt := range []struct {
		name    string
		agent   faulty
		spoil   func(http.Handler) http.Handler
		path    string
		verdict health.Verdict
		reason  string
		says    string
	}{
		{name: "passes everything on", verdict: health.OK},
		{name: "below a path", spoil: below, path: "/claw/", verdict: health.OK},
		{name: "a dashboard that wants its token first", agent: faulty{healthStatus: 401}, verdict: health.OK},
		{"does not reach the dashboard", faulty{}, status(502), "", health.Failed, "dashboard-proxy", "does not reach"},
		{"leads elsewhere", faulty{}, status(404), "", health.Failed, "dashboard-proxy", "somewhere else"},
		{"asks under another name", faulty{}, status(403), "", health.Failed, "dashboard-proxy", "name"},
		{"fails", faulty{}, status(500), "", health.Failed, "dashboard-proxy", "500"},
		{"has the health endpoint alone", faulty{}, onlyHealth, "", health.Failed, "dashboard-proxy", "not a page"},
		{"asks for a sign-in", faulty{}, status(302), "", health.Unknown, "dashboard-public-unreachable", "elsewhere"},
		{"knows no WebSockets", faulty{}, noUpgrade, "", health.Failed, "dashboard-proxy-websocket", "426"},
		{"lets every origin in", faulty{anyOrigin: true}, nil, "", health.Failed, "dashboard-origin-open", "accepted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Public(t.Context(), publicTarget(front(t, tt.agent, tt.spoil)+tt.path))
			check(t, r, tt.verdict, tt.reason)
			if !strings.Contains(r.Message, tt.says) {
				t.Errorf("message %q does not say %q", r.Message, tt.says)
			}
		})
	}
}

// What cannot be reached from here may well be reached from elsewhere.
func TestPublicURLOutOfReach(t *testing.T) {
	t.Setenv("CREEL_BUDGET_PROBE", "300ms")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for name, tt := range map[string]struct{ url, says string }{
		"nobody there":       {"http://127.0.0.1:" + strconv.Itoa(freePort(t)), "refused"},
		"silence":            {"http://127.0.0.1:" + strconv.Itoa(mute(t)), "no answer"},
		"no such name":       {"http://dashboard-probe.invalid", "cannot be resolved"},
		"unknown authority":  {secure.URL, "certificate"},
		"no TLS where it is": {strings.Replace(front(t, faulty{}, nil), "http://", "https://", 1), "http"},
	} {
		r := Public(t.Context(), publicTarget(tt.url))
		check(t, r, health.Unknown, "dashboard-public-unreachable")
		if !strings.Contains(strings.ToLower(r.Message), tt.says) {
			t.Errorf("%s: message %q does not say %q", name, r.Message, tt.says)
		}
	}
}

// An agent without a WebSocket of its own is asked for what it has.
func TestPublicURLOfAProgram(t *testing.T) {
	for code, want := range map[int]health.Verdict{200: health.OK, 418: health.OK, 503: health.Failed} {
		agent := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		r := Public(t.Context(), Target{Access: dashboard.Access{PublicURL: front(t, agent, nil)}})
		if r.Verdict != want || len(r.Evidence) != 1 {
			t.Errorf("status %d: %+v", code, r)
		}
	}
}

// The probe sends no token to the public URL.
func TestPublicURLGetsNoToken(t *testing.T) {
	heard := make(chan string, 100)
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		if err != nil {
			t.Error(err)
		}
		heard <- string(dump)
		faulty{}.ServeHTTP(w, r)
	})
	target := publicTarget(front(t, agent, nil))
	target.Token = credential.NewSecret(token)
	check(t, Public(t.Context(), target), health.OK, "")
	if len(heard) < 4 {
		t.Fatalf("%d requests were heard", len(heard))
	}
	for range len(heard) {
		if h := <-heard; strings.Contains(h, token) {
			t.Errorf("a token was sent: %s", h)
		}
	}
}

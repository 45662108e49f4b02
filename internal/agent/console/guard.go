package console

import (
	"net/http"
	"net/url"
	"strings"

	"creel/internal/dashboard"
)

// guard refuses what no browser of the user would send, and sets the headers
// that confine the page. A Host that is not loopback's is another website whose
// name was pointed at this machine (DNS rebinding).
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !dashboard.LoopbackHost(r.Host) {
			http.Error(w, "this dashboard is opened by a loopback address", http.StatusForbidden)
			return
		}
		h.Set("Content-Security-Policy", contentPolicy(r.Host))
		next.ServeHTTP(w, r)
	})
}

// contentPolicy lets the page load and reach its own server and nothing else.
// The WebSocket is named because not every browser counts it as 'self'. host has
// been checked and cannot carry a directive.
func contentPolicy(host string) string {
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:",
		"connect-src 'self' ws://" + host, "base-uri 'none'", "frame-ancestors 'none'", "form-action 'none'",
		"require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; ")
}

// sameOrigin reports whether a request comes from a page of this server. A
// browser always says where a WebSocket comes from, so silence is a refusal.
func sameOrigin(r *http.Request) bool {
	u, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"creel/internal/dashboard"
	"creel/internal/dashboard/preface"
)

// requestKey is where a request's context carries what is believed of it.
type requestKey struct{}

// requestOf is what guard believes of a request.
func requestOf(r *http.Request) dashboard.Request {
	q, _ := r.Context().Value(requestKey{}).(dashboard.Request)
	return q
}

// guard refuses what no browser of the user would send, and sets the headers
// that confine the page. A Host that is none of the dashboard's own is another
// website whose name was pointed at this machine (DNS rebinding).
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		q := preface.Of(r.Context()).Read(dashboard.Headers{Host: r.Host, ForwardedFor: r.Header.Values("X-Forwarded-For"),
			ForwardedProto: r.Header.Values("X-Forwarded-Proto"), ForwardedHost: r.Header.Values("X-Forwarded-Host")})
		if !q.HostAllowed() {
			refuse(w, r)
			return
		}
		h.Set("Content-Security-Policy", contentPolicy(q.Sockets()))
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, q)))
	})
}

// contentPolicy lets the page load and reach its own server and nothing else.
// The WebSocket is named because not every browser counts it as 'self'. What it is
// named by has been checked and cannot carry a directive.
func contentPolicy(sockets []string) string {
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:",
		"connect-src 'self' " + strings.Join(sockets, " "), "base-uri 'none'", "frame-ancestors 'none'", "form-action 'none'",
		"require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; ")
}

// sameOrigin reports whether a request comes from a page of this dashboard.
func sameOrigin(r *http.Request) bool { return requestOf(r).OriginAllowed(r.Header.Get("Origin")) }

// belowPrefix serves the same below the public URL's path, whether or not a proxy
// takes it off. What is one of our own paths as it is needs no taking off.
func belowPrefix(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prefix := preface.Of(r.Context()).Prefix()
		_, own := mux.Handler(r)
		switch {
		case prefix == "" || own != "":
			mux.ServeHTTP(w, r)
		case r.URL.Path == prefix:
			// The page's own addresses are relative: they need the slash.
			http.Redirect(w, r, (&url.URL{Path: prefix + "/"}).EscapedPath(), http.StatusPermanentRedirect)
		case strings.HasPrefix(r.URL.Path, prefix+"/"):
			http.StripPrefix(prefix, mux).ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

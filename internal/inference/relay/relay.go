// Package relay answers a sandbox's model requests: it checks the sandbox's own
// token, sets the route's model and the provider's credential, and passes the
// answer through unbuffered. It must not write a body, a credential or a header's
// value to a log, nor send the credential anywhere but to the route's address.
package relay

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"creel/internal/credential"
	"creel/internal/inference"
)

// Limits of one relay.
const (
	MaxBody       = 10 << 20 // bytes of a request's body
	maxConcurrent = 32       // requests at a time; each may hold a body in memory
	maxHeader     = 64 << 10
	dialLimit     = 30 * time.Second
)

// ErrNoRoute means that the gateway knows of no model. Any other error of
// Routes.Route means that it could not be asked.
var ErrNoRoute = errors.New("no model is set")

// Routes says which provider answers now.
type Routes interface {
	// Route returns the current route. With renew the gateway is asked again, even
	// if its last answer is recent: the provider has just refused the key.
	Route(ctx context.Context, renew bool) (inference.Route, error)
}

// Config is what a relay needs.
type Config struct {
	// Token is what requests must present; with an empty one all are refused.
	Token  credential.Secret
	Routes Routes
	Log    *slog.Logger
	// Proxy chooses a proxy for a provider; nil means none, whatever the
	// environment says.
	Proxy func(*http.Request) (*url.URL, error)
}

// Server is the relay.
type Server struct {
	token     [sha256.Size]byte
	closed    bool // no token was given: nobody may enter
	routes    Routes
	log       *slog.Logger
	transport *http.Transport
	slots     chan struct{}
	answered  atomic.Uint64
}

// New makes a relay.
func New(c Config) *Server {
	return &Server{
		token:  sha256.Sum256([]byte(c.Token.Reveal())),
		closed: c.Token.Empty(),
		routes: c.Routes,
		log:    c.Log,
		transport: &http.Transport{
			Proxy:                  c.Proxy,
			DialContext:            (&net.Dialer{Timeout: dialLimit}).DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true, // a compressed stream would be buffered and could not be searched for the key
			MaxResponseHeaderBytes: maxHeader,
		},
		slots: make(chan struct{}, maxConcurrent),
	}
}

// Answered counts the model requests that a provider answered well.
func (s *Server) Answered() uint64 { return s.answered.Load() }

// Serve answers on l until ctx ends; then it closes every connection and returns
// nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	defer s.transport.CloseIdleConnections()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		_ = server.Close()
		return err
	}
	return nil
}

// forwarded are the API paths that go to the provider, all by POST.
func forwarded(path string) bool {
	switch path {
	case "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages":
		return true
	}
	return false
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.URL.Path == "/healthz":
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	case !s.admits(r):
		refuse(w, problem{Status: http.StatusUnauthorized, Code: "relay_unauthorized",
			Message: "the relay does not know this token; use the value of OPENAI_API_KEY inside the sandbox"})
	case r.URL.Path == "/v1/models" || strings.HasPrefix(r.URL.Path, "/v1/models/"):
		s.models(w, r)
	case !forwarded(r.URL.Path):
		refuse(w, problem{Status: http.StatusNotFound, Code: "not_found", Message: "the relay does not forward " + r.URL.Path})
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "send a POST request to " + r.URL.Path})
	default:
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			s.forward(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			refuse(w, problem{Status: http.StatusTooManyRequests, Code: "too_many_requests",
				Message: "the relay is answering as many requests as it takes at a time"})
		}
	}
}

// admits compares the presented token in constant time.
func (s *Server) admits(r *http.Request) bool {
	given := r.Header.Get("X-Api-Key")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(token)
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1 && !s.closed
}

// models answers from the route, so that a client finds the one model there is
// whether or not the provider lists any.
func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "send a GET request to " + r.URL.Path})
		return
	}
	route, err := s.routes.Route(r.Context(), false)
	if err != nil {
		refuse(w, routeProblem(err))
		return
	}
	model := map[string]any{"id": route.Model, "object": "model", "created": 0, "owned_by": route.Provider}
	if r.URL.Path == "/v1/models" {
		writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{model}})
		return
	}
	if asked := strings.TrimPrefix(r.URL.Path, "/v1/models/"); asked != route.Model {
		refuse(w, problem{Status: http.StatusNotFound, Code: "model_not_found", Message: "the model here is " + route.Model})
		return
	}
	writeJSON(w, http.StatusOK, model)
}

// Package openaitest is a model provider for tests: a real HTTP server on
// loopback that speaks the OpenAI-compatible API well, and badly on request. It
// records what it is sent, and it never asserts anything itself.
package openaitest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Mode is how the server behaves.
type Mode string

// The modes.
const (
	Answer       Mode = "answer"        // correct answers; the default
	NoModels     Mode = "no-models"     // as Answer, but GET /models is 404
	Unauthorized Mode = "unauthorized"  // 401 with a JSON error
	NotFound     Mode = "not-found"     // 404 with a JSON error that names no model
	UnknownModel Mode = "unknown-model" // as NoModels, and chat says 404 "model … does not exist"
	RateLimited  Mode = "rate-limited"  // 429 with Retry-After: 7
	Broken       Mode = "broken"        // 500 with a JSON error
	HTML         Mode = "html"          // 200 with a web page
	Nothing      Mode = "nothing"       // closes the connection without an answer
	Never        Mode = "never"         // accepts and never answers
	EchoKey      Mode = "echo-key"      // 401 whose text and headers repeat the credential
	SlowStream   Mode = "slow-stream"   // each chunk of a stream waits for Release
	StallStream  Mode = "stall-stream"  // one chunk, then silence
	CutStream    Mode = "cut-stream"    // one chunk, then the connection is closed
	Redirect     Mode = "redirect"      // 307 to RedirectTo
)

// DefaultModel is the model that GET /models lists unless SetModels is called.
const DefaultModel = "test-model"

// Request is one request as the server got it.
type Request struct {
	Method string
	Path   string // as sent, e.g. "/v1/chat/completions"
	Header http.Header
	Body   []byte
	Model  string // the body's "model", empty without one
}

// Server is a running provider.
type Server struct {
	// URL is the base URL, ending in /v1.
	URL string
	// RedirectTo is where mode Redirect sends its callers; set before use.
	RedirectTo string

	server  *httptest.Server
	closing chan struct{}
	close   sync.Once
	release chan struct{}

	mu       sync.Mutex
	mode     Mode
	key      string
	models   []string
	reply    func(user string) []string
	requests []Request
}

// Start runs a server until the test ends. It answers every key, lists
// DefaultModel, and replies in a few chunks that repeat what the user said.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{mode: Answer, models: []string{DefaultModel}, closing: make(chan struct{}), release: make(chan struct{}),
		reply: func(user string) []string {
			return []string{"Hello ", "from the ", "test model. ", "You said: ", user}
		}}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.server.URL + "/v1"
	tb.Cleanup(s.Close)
	return s
}

// Close ends the server and whatever waits in it. Closing twice is fine.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.closing)
		s.server.CloseClientConnections()
		s.server.Close()
	})
}

// SetMode changes how requests from now on are answered.
func (s *Server) SetMode(m Mode) { s.locked(func() { s.mode = m }) }

// SetKey makes the server refuse every other key with 401; "" accepts any.
func (s *Server) SetKey(key string) { s.locked(func() { s.key = key }) }

// SetModels replaces what GET /models lists.
func (s *Server) SetModels(ids ...string) { s.locked(func() { s.models = ids }) }

// SetReply replaces the answer: the chunks for the last user message.
func (s *Server) SetReply(reply func(user string) []string) { s.locked(func() { s.reply = reply }) }

// Release lets one chunk of mode SlowStream go, and returns when the server has
// taken it or is closed.
func (s *Server) Release() {
	select {
	case s.release <- struct{}{}:
	case <-s.closing:
	}
}

// Requests returns what was received so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var ask struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string `json:"role"`
			Content any    `json:"content"`
		} `json:"messages"`
	}
	_ = json.Unmarshal(body, &ask)
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Model: ask.Model})
	mode, key, models, reply := s.mode, s.key, s.models, s.reply
	s.mu.Unlock()

	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if given == "" {
		given = r.Header.Get("X-Api-Key")
	}
	if key != "" && given != key && mode != Never && mode != Nothing {
		mode = Unauthorized
	}
	if s.misbehave(w, r, mode, given) {
		return
	}
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/v1/models":
		if mode == NoModels || mode == UnknownModel {
			fail(w, http.StatusNotFound, "unknown path", "not_found")
			return
		}
		list := []map[string]any{}
		for _, id := range models {
			list = append(list, map[string]any{"id": id, "object": "model", "owned_by": "test"})
		}
		answer(w, map[string]any{"object": "list", "data": list})
	case r.Method != http.MethodPost:
		fail(w, http.StatusNotFound, "unknown path", "not_found")
	case mode == UnknownModel:
		fail(w, http.StatusNotFound, "The model `"+ask.Model+"` does not exist", "model_not_found")
	case r.URL.Path == "/v1/chat/completions":
		user := ""
		for _, m := range ask.Messages {
			if text, ok := m.Content.(string); ok && m.Role == "user" {
				user = text
			}
		}
		if ask.Stream {
			s.stream(w, r, mode, ask.Model, reply(user))
			return
		}
		answer(w, map[string]any{"id": "chatcmpl-1", "object": "chat.completion", "model": ask.Model, "choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop",
			"message": map[string]string{"role": "assistant", "content": strings.Join(reply(user), "")}}}})
	case r.URL.Path == "/v1/embeddings":
		answer(w, map[string]any{"object": "list", "model": ask.Model, "data": []any{map[string]any{
			"object": "embedding", "index": 0, "embedding": []float64{0.5, -0.5}}}})
	case r.URL.Path == "/v1/completions", r.URL.Path == "/v1/responses", r.URL.Path == "/v1/messages":
		answer(w, map[string]any{"id": "answer-1", "model": ask.Model, "choices": []any{}, "output": []any{}})
	default:
		fail(w, http.StatusNotFound, "unknown path", "not_found")
	}
}

// misbehave answers in the modes that treat every request alike.
func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, mode Mode, given string) bool {
	switch mode {
	case Unauthorized:
		fail(w, http.StatusUnauthorized, "Incorrect API key provided", "invalid_api_key")
	case EchoKey:
		w.Header().Set("X-Request-Id", given)
		fail(w, http.StatusUnauthorized, "Incorrect API key provided: "+given+", find yours elsewhere", "invalid_api_key")
	case NotFound:
		fail(w, http.StatusNotFound, "no such resource", "not_found")
	case RateLimited:
		w.Header().Set("Retry-After", "7")
		fail(w, http.StatusTooManyRequests, "Rate limit reached", "rate_limit_exceeded")
	case Broken:
		fail(w, http.StatusInternalServerError, "The server had an error", "server_error")
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>Sign in</title><h1>Sign in</h1>")
	case Nothing:
		panic(http.ErrAbortHandler)
	case Never:
		select {
		case <-s.closing:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case Redirect:
		http.Redirect(w, r, s.RedirectTo, http.StatusTemporaryRedirect)
	default:
		return false
	}
	return true
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, mode Mode, model string, chunks []string) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	send := func(v any) {
		b, _ := json.Marshal(v)
		_, _ = w.Write([]byte("data: " + string(b) + "\n\n"))
		_ = control.Flush()
	}
	chunk := func(delta map[string]string, finish any) map[string]any {
		return map[string]any{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}}
	}
	for i, text := range chunks {
		if mode == SlowStream {
			select {
			case <-s.release:
			case <-s.closing:
				return
			case <-r.Context().Done():
				return
			}
		}
		send(chunk(map[string]string{"role": "assistant", "content": text}, nil))
		if i > 0 {
			continue
		}
		switch mode {
		case StallStream:
			select {
			case <-s.closing:
			case <-r.Context().Done():
			}
			return
		case CutStream:
			panic(http.ErrAbortHandler)
		}
	}
	send(chunk(map[string]string{}, "stop"))
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
	_ = control.Flush()
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, message, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "code": code}})
}

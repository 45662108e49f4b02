package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"creel/internal/budget"
	"creel/internal/inference"
)

// maxFault bounds what is read of a provider's error.
const maxFault = 256 << 10

// anthropicVersion is the API version that a request to Anthropic must name.
const anthropicVersion = "2023-06-01"

// forward carries one request to the provider and its answer back.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, problem{Status: http.StatusRequestEntityTooLarge, Code: "request_too_large",
			Message: fmt.Sprintf("the request has more than %d MiB", MaxBody>>20)})
		return
	} else if err != nil {
		return // the client is gone
	}
	route, err := s.routes.Route(r.Context(), false)
	if err != nil {
		refuse(w, routeProblem(err))
		return
	}
	got, p := s.ask(r, route, body)
	if p == nil && got.StatusCode == http.StatusUnauthorized {
		// The stored key may have been replaced since it was fetched.
		if renewed, err := s.routes.Route(r.Context(), true); err == nil && renewed != route {
			got.close()
			route = renewed
			got, p = s.ask(r, route, body)
		}
	}
	status := 0
	defer func() {
		s.log.Info("model request", slog.String("path", r.URL.Path), slog.String("provider", route.Provider),
			slog.String("model", route.Model), slog.Int("status", status), slog.Duration("took", time.Since(begun).Round(time.Millisecond)))
	}()
	if p != nil {
		status = p.Status
		p.Message = inference.Redact(p.Message, route.Key)
		refuse(w, *p)
		return
	}
	defer got.close()
	status = got.StatusCode
	s.answer(w, got, route)
}

// exchange is a provider's answer whose body is still to be read.
type exchange struct {
	*http.Response
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (e *exchange) close() {
	e.cancel(nil)
	_ = e.Body.Close()
}

// limit ends the exchange when d passes before the returned function is called.
func (e *exchange) limit(n budget.Name, operation string) (met func()) {
	d := budget.Of(n)
	timer := time.AfterFunc(d, func() { e.cancel(&budget.Expired{Budget: n, Limit: d, Operation: operation}) })
	return func() { timer.Stop() }
}

// ask sends the request and waits for the head of the answer. A nil exchange
// comes with the problem to tell.
func (s *Server) ask(r *http.Request, route inference.Route, body []byte) (*exchange, *problem) {
	base, err := inference.NormalizeURL(route.BaseURL)
	if err != nil {
		return nil, &problem{Status: http.StatusBadGateway, Type: "provider_error", Code: "provider_endpoint", Message: err.Error()}
	}
	rewritten, err := setModel(body, route.Model)
	if err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Code: "invalid_request", Message: err.Error()}
	}
	e := &exchange{}
	e.ctx, e.cancel = context.WithCancelCause(r.Context())
	out, err := http.NewRequestWithContext(e.ctx, http.MethodPost, inference.Join(base, r.URL.Path), bytes.NewReader(rewritten))
	if err != nil {
		e.cancel(nil)
		return nil, &problem{Status: http.StatusBadGateway, Type: "provider_error", Code: "provider_endpoint", Message: "the provider's address cannot be used"}
	}
	// Only what the API knows goes out: no cookie, no proxy header, no token of ours.
	for _, name := range []string{"Accept", "OpenAI-Beta", "Anthropic-Version", "Anthropic-Beta", "Idempotency-Key"} {
		if v := r.Header.Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	out.Header.Set("Content-Type", "application/json")
	out.Header.Set("User-Agent", "creel")
	authorize(out.Header, route)
	met := e.limit(budget.InferenceStart, "wait for the first byte of the model's answer")
	e.Response, err = s.transport.RoundTrip(out)
	met()
	if err != nil {
		p := sendProblem(context.Cause(e.ctx), err)
		e.cancel(nil)
		return nil, &p
	}
	return e, nil
}

// authorize adds the provider's credential, in the way its API wants it.
func authorize(h http.Header, route inference.Route) {
	if route.Key.Empty() {
		return
	}
	if strings.HasPrefix(route.Type, "anthropic") {
		h.Set("X-Api-Key", route.Key.Reveal())
		if h.Get("Anthropic-Version") == "" {
			h.Set("Anthropic-Version", anthropicVersion)
		}
		return
	}
	h.Set("Authorization", "Bearer "+route.Key.Reveal())
}

// answer passes a good answer through and turns any other into a clear error.
func (s *Server) answer(w http.ResponseWriter, e *exchange, route inference.Route) {
	head := inference.Answer{Status: e.StatusCode, ContentType: e.Header.Get("Content-Type")}
	for name, values := range e.Header {
		if !returned(name) {
			continue
		}
		for _, v := range values {
			w.Header().Add(name, inference.Redact(v, route.Key))
		}
	}
	encoding := e.Header.Get("Content-Encoding")
	switch {
	case encoding != "" && encoding != "identity":
		refuse(w, problem{Status: http.StatusBadGateway, Type: "provider_error", Code: "provider_endpoint",
			Message: "the provider compressed its answer although it was not asked to"})
		return
	case e.StatusCode < 200 || e.StatusCode > 299 || head.IsWebPage():
		met := e.limit(budget.InferenceIdle, "read the provider's error")
		head.Body, _ = io.ReadAll(io.LimitReader(e.Body, maxFault))
		met()
		p := answerProblem(head, route.Model)
		for _, field := range []*string{&p.Message, &p.Type, &p.Code, &p.Param} {
			*field = inference.Redact(*field, route.Key)
		}
		refuse(w, p)
		return
	}
	w.Header().Set("Content-Type", head.ContentType)
	w.WriteHeader(e.StatusCode)
	s.answered.Add(1)
	pass(w, e, route)
}

// returned says which headers of a provider reach the sandbox: those that
// clients act on, and no cookie.
func returned(name string) bool {
	switch name {
	case "Cache-Control", "Retry-After", "X-Request-Id", "Request-Id", "Openai-Processing-Ms", "Openai-Version":
		return true
	}
	return strings.HasPrefix(name, "X-Ratelimit-")
}

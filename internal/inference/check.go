package inference

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/health"
)

// maxCheckBody bounds what is read of one answer; the longest model lists in the
// field have about 1 MiB.
const maxCheckBody = 4 << 20

// CheckRoute asks the provider of a route whether it answers for its key and
// model: the model list first, and one minimal completion where the list does
// not prove enough. It ends within the provider budget, reads no proxy settings,
// follows no redirect, and its message never holds the key.
func CheckRoute(ctx context.Context, r Route) Check {
	begun := time.Now()
	c := checkRoute(ctx, r)
	c.Message = Redact(c.Message, r.Key)
	c.At, c.Took = begun, time.Since(begun)
	switch c.Class {
	case ClassOK, ClassNone:
		c.Verdict = health.OK
	case ClassTransport:
		c.Verdict = health.Unknown
	default:
		c.Verdict = health.Failed
	}
	return c
}

func checkRoute(ctx context.Context, r Route) Check {
	name := r.Type
	if name == "" {
		name = r.Provider
	}
	if name == NoProvider || (name == "" && r.BaseURL == "") {
		return Check{Class: ClassNone, Message: "no provider is wanted"}
	}
	p, err := Lookup(name)
	if err != nil {
		if r.BaseURL == "" {
			return Check{Class: ClassEndpoint, Message: err.Error()}
		}
		p, _ = Lookup("custom") // a name of the user's own for an endpoint
	}
	raw := r.BaseURL
	if raw == "" {
		raw = p.BaseURL
	}
	if raw == "" {
		return Check{Class: ClassEndpoint, Message: "provider " + p.Name + " needs an address; name it with --endpoint-url"}
	}
	base, err := NormalizeURL(raw)
	if err != nil {
		return Check{Class: ClassEndpoint, Message: err.Error()}
	}
	if err := CheckModel(r.Model); err != nil {
		return Check{Class: ClassModel, Message: err.Error(), Endpoint: base}
	}
	if err := p.CheckKey(r.Key, base); err != nil {
		return Check{Class: ClassCredential, Message: err.Error(), Endpoint: base}
	}
	ctx, cancel := budget.Context(ctx, budget.Provider, "ask the provider at "+base)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	a := asker{key: r.Key, client: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	return a.check(ctx, p, base, r.Model)
}

// asker sends the questions of one check.
type asker struct {
	key    credential.Secret
	client *http.Client
}

func (a asker) check(ctx context.Context, p Provider, base, model string) Check {
	address := Join(base, "/v1/models")
	list, err := a.ask(ctx, http.MethodGet, address, nil)
	c := Check{Endpoint: address, Status: list.Status}
	if err != nil {
		c.Class, c.Message = classifyError(ctx, err)
		return c
	}
	listed, isList := lists(list, model)
	missing := list.Status == http.StatusNotFound || list.Status == http.StatusMethodNotAllowed || list.Status == http.StatusNotImplemented
	switch {
	case listed && (a.key.Empty() || !p.PublicModels):
		c.Class, c.Message = ClassOK, fmt.Sprintf("the provider lists model %q", model)
		return c
	case !isList && !missing:
		c.Class, c.Message = Classify(list, "")
		return c
	case missing && list.IsWebPage():
		// Many servers say 404 with a page for the list alone: the completion decides.
	}

	address = Join(base, "/v1/chat/completions")
	body, err := json.Marshal(map[string]any{"model": model, "max_tokens": 1,
		"messages": []any{map[string]string{"role": "user", "content": "hi"}}})
	if err != nil {
		return Check{Class: ClassModel, Message: err.Error(), Endpoint: address}
	}
	done, err := a.ask(ctx, http.MethodPost, address, body)
	c = Check{Endpoint: address, Status: done.Status}
	if err != nil {
		c.Class, c.Message = classifyError(ctx, err)
		return c
	}
	fault := done.Fault()
	switch {
	case completes(done):
		c.Class, c.Message = ClassOK, fmt.Sprintf("the provider answers with model %q", model)
	case done.Status == http.StatusBadRequest && strings.Contains(fault.Message, "max_completion_tokens"):
		// Models that insist on the newer name have accepted key and model by then.
		c.Class, c.Message = ClassOK, fmt.Sprintf("the provider knows model %q", model)
	case done.Status == http.StatusNotFound && isList && !listed && !done.IsWebPage():
		c.Class, c.Message = ClassModel, fmt.Sprintf("the provider does not list model %q and has no completion for it (404)", model)
	default:
		c.Class, c.Message = Classify(done, model)
	}
	return c
}

func (a asker) ask(ctx context.Context, method, address string, body []byte) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "creel")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if !a.key.Empty() {
		r.Header.Set("Authorization", "Bearer "+a.key.Reveal())
	}
	got, err := a.client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = got.Body.Close() }()
	answer := Answer{Status: got.StatusCode, ContentType: got.Header.Get("Content-Type")}
	answer.Body, err = io.ReadAll(io.LimitReader(got.Body, maxCheckBody))
	if err != nil {
		return answer, fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil
}

// lists reports whether an answer is a model list and whether it holds model.
func lists(a Answer, model string) (listed, isList bool) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
		Object string `json:"object"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &list) != nil || (list.Data == nil && list.Object != "list") {
		return false, false
	}
	for _, m := range list.Data {
		// Gemini prefixes "models/"; Ollama lists the tag that it would assume.
		if m.ID == model || m.ID == "models/"+model || m.ID == model+":latest" {
			return true, true
		}
	}
	return false, true
}

// completes reports whether an answer is a completion.
func completes(a Answer) bool {
	var done struct {
		Choices []json.RawMessage `json:"choices"`
	}
	return a.Status == http.StatusOK && json.Unmarshal(a.Body, &done) == nil && len(done.Choices) > 0
}

// classifyError says what it means that no answer came.
func classifyError(ctx context.Context, err error) (Class, string) {
	if expired := (*budget.Expired)(nil); errors.As(context.Cause(ctx), &expired) {
		return ClassTransport, "the provider did not answer: " + expired.Error()
	}
	return ClassifyError(err)
}

// ClassifyError says what it means that a request got no answer. The sentence
// names the host and not the whole URL.
func ClassifyError(err error) (Class, string) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		dns      *net.DNSError
	)
	switch {
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid):
		return ClassEndpoint, "the endpoint's certificate is not valid for it: " + inner(err)
	case errors.As(err, &record), errors.As(err, &alert), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return ClassEndpoint, "the endpoint does not speak TLS as https needs it; is it http://?"
	case errors.As(err, &dns):
		return ClassTransport, fmt.Sprintf("the host name %s cannot be resolved", dns.Name)
	case errors.Is(err, context.DeadlineExceeded):
		return ClassTransport, "the provider did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ClassTransport, "the provider closed the connection without an answer"
	case strings.Contains(err.Error(), "malformed HTTP"):
		return ClassEndpoint, "the endpoint does not speak HTTP"
	}
	return ClassTransport, "the provider cannot be reached: " + inner(err)
}

// inner is the innermost words of a request's error, without the URL that
// net/http puts in front.
func inner(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return oneLine(op.Error())
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return oneLine(err.Error())
}

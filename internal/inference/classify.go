package inference

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxQuoted bounds how much of a provider's own words is repeated, in bytes.
const maxQuoted = 240

// Answer is what a provider sent back.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte // as much as was read
}

// IsWebPage reports whether the answer is HTML instead of the API's JSON.
func (a Answer) IsWebPage() bool {
	media, _, _ := mime.ParseMediaType(a.ContentType)
	if media == "text/html" || media == "application/xhtml+xml" {
		return true
	}
	body := strings.ToLower(strings.TrimSpace(string(a.Body[:min(len(a.Body), 64)])))
	return strings.HasPrefix(body, "<!doctype html") || strings.HasPrefix(body, "<html")
}

// Fault is the error object of a provider's answer, as far as it has one.
type Fault struct {
	Message string
	Type    string
	Code    string
	Param   string
}

// Fault reads the error object: {"error": {…}}, {"error": "text"}, {"message"},
// {"detail"} are all seen in the field.
func (a Answer) Fault() Fault {
	var outer struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(a.Body, &outer) != nil {
		return Fault{}
	}
	var inner struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    any    `json:"code"`
		Param   any    `json:"param"`
	}
	f := Fault{Message: outer.Message}
	if json.Unmarshal(outer.Error, &inner) == nil {
		f = Fault{Message: inner.Message, Type: inner.Type, Code: word(inner.Code), Param: word(inner.Param)}
	} else {
		for _, raw := range []json.RawMessage{outer.Error, outer.Detail} {
			var text string
			if f.Message == "" && json.Unmarshal(raw, &text) == nil {
				f.Message = text
			}
		}
	}
	f.Message = oneLine(f.Message)
	return f
}

func word(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return fmt.Sprint(v)
	}
	return ""
}

// oneLine makes a provider's words fit for one line of a terminal: no control
// characters, bounded.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))), " ")
	if len(s) <= maxQuoted {
		return s
	}
	cut := maxQuoted
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Classify says what an answer other than the expected one means, with one
// sentence. The sentence may quote the provider: redact it before it is shown.
// model is the model that was asked for; empty when the question named none.
func Classify(a Answer, model string) (Class, string) {
	fault := a.Fault()
	said := ""
	if fault.Message != "" {
		said = ": " + fault.Message
	}
	switch {
	case a.Status == http.StatusUnauthorized:
		return ClassCredential, "the provider refused the key (401)" + said
	case a.Status == http.StatusTooManyRequests:
		return ClassTransport, "the provider is limiting requests (429)" + said
	case a.Status >= 500 && a.Status != http.StatusNotImplemented, a.Status == http.StatusRequestTimeout:
		return ClassTransport, fmt.Sprintf("the provider has a fault of its own (%d)%s", a.Status, said)
	case a.Status >= 300 && a.Status < 400:
		return ClassEndpoint, fmt.Sprintf("the endpoint redirects elsewhere (%d); name the address it redirects to", a.Status)
	case a.IsWebPage():
		return ClassEndpoint, fmt.Sprintf("the endpoint answered with a web page (%d) instead of the API's JSON", a.Status)
	case a.Status == http.StatusForbidden:
		return ClassCredential, "the provider does not permit the key to do this (403)" + said
	case model != "" && a.Status >= 400 && namesModel(fault):
		return ClassModel, fmt.Sprintf("the provider does not know model %q (%d)%s", model, a.Status, said)
	case a.Status == http.StatusNotFound, a.Status == http.StatusMethodNotAllowed, a.Status == http.StatusNotImplemented, a.Status == http.StatusGone:
		return ClassEndpoint, fmt.Sprintf("the endpoint has no such API (%d)%s", a.Status, said)
	case a.Status >= 400:
		return ClassEndpoint, fmt.Sprintf("the provider refused the request (%d)%s", a.Status, said)
	}
	return ClassEndpoint, fmt.Sprintf("the endpoint's answer (%d) is not that of an OpenAI-compatible API", a.Status)
}

// namesModel reports whether a fault is about the model.
func namesModel(f Fault) bool {
	if strings.Contains(strings.ToLower(f.Code), "model") || f.Param == "model" {
		return true
	}
	m := strings.ToLower(f.Message)
	return strings.Contains(m, "model") && !strings.Contains(m, "max_tokens") && !strings.Contains(m, "max_completion_tokens")
}

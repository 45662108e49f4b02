package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"creel/internal/budget"
	"creel/internal/credential"
)

// The codes of faults that the console itself finds; every other code is the
// relay's.
const (
	codeRelayUnreachable = "relay_unreachable"
	codeRelayError       = "relay_error"
	codeInterrupted      = "stream_interrupted"
	codeTimeout          = "timeout"
	codeEmptyAnswer      = "empty_answer"
	codeAnswerTooLong    = "answer_too_long"
	codeNoModel          = "no_model_configured"
)

// maxEventLine bounds one line of a streamed answer.
const maxEventLine = 1 << 20

// patience is how much longer than the relay the console waits: whichever gives
// up first explains why, and the relay knows more.
const patience = 5 * time.Second

// message is one turn as the model gets it.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// relay is the sandbox's way to a model.
type relay struct {
	client *http.Client
	url    string
	token  credential.Secret
}

func newRelay(url string, token credential.Secret) *relay {
	return &relay{
		url: url, token: token,
		client: &http.Client{
			// The relay is on loopback: a proxy from the environment, or a redirect
			// elsewhere, would only carry the token away.
			Transport:     &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (r *relay) close() { r.client.CloseIdleConnections() }

func (r *relay) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(encode(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !r.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+r.token.Reveal())
	}
	return r.client.Do(req)
}

// model asks which model answers.
func (r *relay) model(ctx context.Context) (string, *fault) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the relay for its model")
	defer cancel()
	resp, err := r.do(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return "", transportFault(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", responseFault(resp)
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxEventLine)).Decode(&list); err != nil {
		return "", &fault{codeRelayError, "The inference relay did not answer with a list of models."}
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", &fault{codeNoModel, "No model is set for this gateway."}
	}
	return clip(list.Data[0].ID, 200), nil
}

// chunk is what the console reads of a streamed event or of a whole answer.
type chunk struct {
	Model   string `json:"model"`
	Choices []struct {
		Delta        message `json:"delta"`
		Message      message `json:"message"`
		FinishReason string  `json:"finish_reason"`
	} `json:"choices"`
	Error json.RawMessage `json:"error"`
}

// answered is how an answer ended.
type answered struct {
	model string // as the answer names it; may be empty
	state string // "" or stateLength
}

// chat asks for an answer and calls emit with each piece of it. What was emitted
// before a fault stands.
func (r *relay) chat(ctx context.Context, model string, messages []message, emit func(string)) (answered, *fault) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// One watch for both silences: until the first byte, and inside the answer.
	expire := func(n budget.Name, operation string) func() {
		return func() { cancel(&budget.Expired{Budget: n, Limit: budget.Of(n) + patience, Operation: operation}) }
	}
	first := time.AfterFunc(budget.Of(budget.InferenceStart)+patience, expire(budget.InferenceStart, "wait for the answer to begin"))
	defer first.Stop()

	if model == "" {
		model = "default" // the relay puts the route's model in its place
	}
	resp, err := r.do(ctx, http.MethodPost, "/chat/completions", map[string]any{"model": model, "messages": messages, "stream": true})
	if err != nil {
		return answered{}, transportFault(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answered{}, responseFault(resp)
	}
	first.Stop()
	idle := time.AfterFunc(budget.Of(budget.InferenceIdle)+patience, expire(budget.InferenceIdle, "wait for the answer to go on"))
	defer idle.Stop()

	a := collector{emit: emit}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/json" {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4*maxAnswer))
		if err != nil {
			return a.answered, transportFault(ctx, err)
		}
		if f := a.take(body); f != nil {
			return a.answered, f
		}
		return a.end(true)
	}
	in := bufio.NewReaderSize(resp.Body, 32<<10)
	for {
		line, tooLong, err := readLine(in, maxEventLine)
		idle.Reset(budget.Of(budget.InferenceIdle) + patience)
		if tooLong {
			return a.answered, &fault{codeRelayError, "A piece of the answer is longer than the console accepts."}
		}
		if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:")); ok {
			data = bytes.TrimSpace(data)
			if string(data) == "[DONE]" {
				return a.end(true)
			}
			if f := a.take(data); f != nil {
				return a.answered, f
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return a.end(a.finished)
		case err != nil:
			return a.answered, transportFault(ctx, err)
		}
	}
}

// collector turns events into an answer.
type collector struct {
	answered
	emit     func(string)
	bytes    int
	finished bool // a finish reason was seen
}

func (a *collector) take(data []byte) *fault {
	var c chunk
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return &fault{codeRelayError, "The answer cannot be read: it is not the JSON that is expected."}
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return errorFault(data, http.StatusOK)
	}
	if c.Model != "" {
		a.model = clip(c.Model, 200)
	}
	for _, choice := range c.Choices[:min(1, len(c.Choices))] {
		text := strings.ToValidUTF8(choice.Delta.Content+choice.Message.Content, "\uFFFD")
		if a.bytes+len(text) > maxAnswer {
			return &fault{codeAnswerTooLong, fmt.Sprintf("The answer is longer than the %d KiB that the console keeps.", maxAnswer>>10)}
		}
		if text != "" {
			a.bytes += len(text)
			a.emit(text)
		}
		if choice.FinishReason != "" {
			a.finished = true
			if choice.FinishReason == "length" {
				a.state = stateLength
			}
		}
	}
	return nil
}

func (a *collector) end(complete bool) (answered, *fault) {
	switch {
	case !complete:
		return a.answered, &fault{codeInterrupted, "The answer broke off before its end."}
	case a.bytes == 0:
		return a.answered, &fault{codeEmptyAnswer, "The model answered without any text."}
	}
	return a.answered, nil
}

func transportFault(ctx context.Context, err error) *fault {
	var expired *budget.Expired
	switch {
	case errors.As(context.Cause(ctx), &expired):
		return &fault{codeTimeout, fmt.Sprintf("No answer came within %s.", expired.Limit)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &fault{codeInterrupted, "The answer broke off before its end."}
	}
	return &fault{codeRelayUnreachable, "The inference relay of this sandbox does not answer."}
}

// responseFault reads the relay's {"error":{message,code}}.
func responseFault(resp *http.Response) *fault {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what did come is what can be shown
	return errorFault(body, resp.StatusCode)
}

func errorFault(body []byte, status int) *fault {
	f := &fault{codeRelayError, fmt.Sprintf("The inference relay answered with status %d.", status)}
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return f
	}
	var detail struct {
		Message string `json:"message"`
		Code    any    `json:"code"` // a word here, a number or null elsewhere
		Type    string `json:"type"`
	}
	if json.Unmarshal(envelope.Error, &detail) != nil {
		var text string
		if json.Unmarshal(envelope.Error, &text) == nil && text != "" {
			f.Message = clip(text, 1000)
		}
		return f
	}
	if detail.Message != "" {
		f.Message = clip(detail.Message, 1000)
	}
	if code, ok := detail.Code.(string); ok && code != "" {
		f.Code = clip(code, 64)
	} else if detail.Type != "" {
		f.Code = clip(detail.Type, 64)
	}
	return f
}

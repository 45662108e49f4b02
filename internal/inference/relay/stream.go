package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/inference"
)

// pass copies the body of an answer as it comes. Silence longer than the idle
// budget, or an end before the end, becomes a last error event in an event
// stream and a broken connection in any other answer, so that half an answer is
// never taken for a whole one.
func pass(w http.ResponseWriter, e *exchange, route inference.Route) {
	control := http.NewResponseController(w)
	_ = control.Flush() // the head, so that the client knows that the answer has begun
	hide := redactor{key: []byte(route.Key.Reveal())}
	buffer := make([]byte, 16<<10)
	last := []byte("\n\n")
	send := func(p []byte) bool {
		if len(p) == 0 {
			return true
		}
		last = append(last, p[max(0, len(p)-2):]...)
		last = last[len(last)-2:]
		// A client that does not read must not hold the provider's connection for ever.
		_ = control.SetWriteDeadline(time.Now().Add(budget.Of(budget.InferenceIdle)))
		if _, err := w.Write(p); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	for {
		met := e.limit(budget.InferenceIdle, "wait for more of the model's answer")
		n, err := e.Body.Read(buffer)
		met()
		if !send(hide.push(buffer[:n])) {
			return
		}
		if err == nil {
			continue
		}
		ended := send(hide.flush())
		if errors.Is(err, io.EOF) || !ended {
			return
		}
		if media, _, _ := mime.ParseMediaType(e.Header.Get("Content-Type")); media != "text/event-stream" {
			panic(http.ErrAbortHandler)
		}
		p := sendProblem(context.Cause(e.ctx), err)
		if p.Code == "provider_unreachable" {
			p.Code, p.Message = "provider_interrupted", "the provider's answer ended in the middle"
		}
		event, err := json.Marshal(p.body())
		if err != nil {
			return
		}
		if !bytes.Equal(last, []byte("\n\n")) {
			event = append([]byte("\n\ndata: "), event...)
		} else {
			event = append([]byte("data: "), event...)
		}
		send(append(event, "\n\n"...))
		return
	}
}

// redactor replaces a key in a stream. It holds back only bytes that may be the
// beginning of the key, so that nothing else waits.
type redactor struct {
	key  []byte
	held []byte
}

// push returns what may go on.
func (r *redactor) push(p []byte) []byte {
	if len(r.key) == 0 || len(p) == 0 {
		return p
	}
	data := bytes.ReplaceAll(append(r.held, p...), r.key, []byte(credential.Redacted))
	hold := min(len(data), len(r.key)-1)
	for hold > 0 && !bytes.HasPrefix(r.key, data[len(data)-hold:]) {
		hold--
	}
	r.held = bytes.Clone(data[len(data)-hold:])
	return data[:len(data)-hold]
}

// flush returns what was held back at the end of the stream.
func (r *redactor) flush() []byte {
	p := r.held
	r.held = nil
	return p
}

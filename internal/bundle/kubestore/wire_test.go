package kubestore

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// wire is the way to the API: it records what is asked, and can break.
type wire struct {
	next http.RoundTripper
	// before sees every request; its error breaks the connection before it is
	// sent, and that of after when its answer is on its way back.
	before, after func(*http.Request) error
	// instead answers in the API's place when it returns something.
	instead func(r *http.Request, body []byte) *http.Response

	mu       sync.Mutex
	requests []string
	known    map[string]bool // secret values that passed
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.requests = append(w.requests, r.Method+" "+r.URL.RequestURI())
	w.mu.Unlock()
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var o object
		if json.Unmarshal(body, &o) == nil {
			for _, value := range o.Data {
				w.learn(value)
			}
		}
	}
	if w.before != nil {
		if err := w.before(r); err != nil {
			return nil, err
		}
	}
	if w.instead != nil {
		if answer := w.instead(r, body); answer != nil {
			return answer, nil
		}
	}
	answer, err := w.next.RoundTrip(r)
	if err == nil && w.after != nil {
		if err := w.after(r); err != nil {
			_ = answer.Body.Close()
			return nil, err
		}
	}
	return answer, err
}

// answer is what somebody answers who may not be the API.
func answer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
}

// writes reports whether a request changes something.
func writes(r *http.Request) bool {
	if r.Method == http.MethodGet || strings.Contains(r.URL.Path, "review") || r.URL.Query().Get("dryRun") != "" {
		return false
	}
	if r.Method == http.MethodDelete && r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		return !bytes.Contains(body, []byte(`"dryRun"`))
	}
	return true
}

// once runs something before the first write, as if it happened just then.
func (w *wire) once(do func()) {
	var first sync.Once
	w.before = func(r *http.Request) error {
		if writes(r) {
			first.Do(do)
		}
		return nil
	}
}

func (w *wire) sent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests)
}

// learn notes every line of a value that is long enough to be told from words.
func (w *wire) learn(value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range strings.Fields(string(value)) {
		if len(line) > 16 && !strings.HasPrefix(line, "-----") && w.known != nil {
			w.known[line] = true
		}
	}
}

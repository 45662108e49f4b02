package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"creel/internal/sandbox"
)

// Limits of what a page may send.
const (
	maxQuestion = 32 << 10  // bytes of one chat message
	maxFrame    = 256 << 10 // bytes of one WebSocket message
	maxID       = 64
)

// The close codes of the WebSocket that the page knows, from the range that
// RFC 6455 leaves to applications.
const (
	closeBadMessage = 4400
	closeBadToken   = 4401
	closeNoToken    = 4408
)

// request is a message of the page. The first on every connection is "auth".
type request struct {
	Type string `json:"type"` // auth, chat, stop, clear
	ID   string `json:"id"`   // of the exchange: made by the page, for chat and stop
	Text string `json:"text"` // chat
	// Replaces is the id of a failed or stopped exchange that this chat repeats.
	Replaces string `json:"replaces"`
	Token    string `json:"token"` // auth
	MAC      []byte `json:"mac"`   // auth: the page's proof, in place of the token
	// Probe asks for a hello without the conversation; what asks is not a person
	// and leaves again.
	Probe bool `json:"probe"`
}

// parseRequest reads one message and checks everything that its type needs.
// Errors never repeat the content: it may be a token.
func parseRequest(data []byte) (request, error) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return request{}, errors.New("the message is not the JSON object that is expected")
	}
	switch r.Type {
	case "auth", "clear":
	case "stop":
		return r, checkID(r.ID)
	case "chat":
		if err := checkID(r.ID); err != nil {
			return request{}, err
		}
		if r.Replaces != "" {
			if err := checkID(r.Replaces); err != nil {
				return request{}, err
			}
		}
		switch {
		case strings.TrimSpace(r.Text) == "":
			return request{}, errors.New("the text is empty")
		case len(r.Text) > maxQuestion:
			return request{}, fmt.Errorf("the text has %d bytes, at most %d are allowed", len(r.Text), maxQuestion)
		}
	default:
		return request{}, errors.New("the type is none of auth, chat, stop, clear")
	}
	return r, nil
}

func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("the id must have 1 to %d characters", maxID)
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return errors.New("the id may hold letters, digits, hyphens and underscores only")
		}
	}
	return nil
}

// fault is an error as the page gets it.
type fault struct {
	Code    string `json:"code"` // e.g. "no_model_configured"
	Message string `json:"message"`
}

func (f *fault) Error() string { return f.Code + ": " + f.Message }

// hello is the first message after the right token.
type hello struct {
	Type        string               `json:"type"`
	Version     string               `json:"version"`
	Sandbox     string               `json:"sandbox"`
	Model       string               `json:"model"` // empty: none, or not known yet
	ModelError  *fault               `json:"model_error,omitempty"`
	Tier        sandbox.Tier         `json:"tier"`
	Reason      string               `json:"reason"`
	Protections []sandbox.Protection `json:"protections"`
	PolicyHash  string               `json:"policy_hash"`
	// Saved is false when the conversation cannot be written down.
	Saved   bool    `json:"saved"`
	History []entry `json:"history"`
	// Pending is the exchange that is being answered, with what came so far.
	Pending *event `json:"pending,omitempty"`
}

// event is everything else that the server sends: user, delta, done, error,
// model, removed, cleared.
type event struct {
	Type   string    `json:"type"`
	ID     string    `json:"id,omitempty"`
	Text   string    `json:"text,omitempty"`
	State  string    `json:"state,omitempty"` // of done, see entry
	Model  string    `json:"model,omitempty"`
	Code   string    `json:"code,omitempty"`
	Detail string    `json:"message,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// encode never fails: the types above hold nothing that JSON cannot say.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("console: encode message: " + err.Error())
	}
	return data
}

// clip bounds a text that somebody else wrote, at a rune boundary.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

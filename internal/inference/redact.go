package inference

import (
	"encoding/json"
	"net/url"
	"strings"

	"creel/internal/credential"
)

// Redact replaces every occurrence of key in text, also as JSON and URLs write
// it.
func Redact(text string, key credential.Secret) string {
	value := key.Reveal()
	if value == "" {
		return text
	}
	text = strings.ReplaceAll(text, value, credential.Redacted)
	if quoted, err := json.Marshal(value); err == nil {
		text = strings.ReplaceAll(text, string(quoted[1:len(quoted)-1]), credential.Redacted)
	}
	return strings.ReplaceAll(text, url.QueryEscape(value), credential.Redacted)
}

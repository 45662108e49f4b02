package inference

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// maxModel bounds a model id; real ones are far shorter.
const maxModel = 256

// NormalizeURL returns the base URL that requests are joined to: http or https,
// a host, no trailing slash, "/v1" when there was no path, and without the path
// of one endpoint ("/chat/completions") that people paste. User info, a query or
// a fragment is refused, and no error repeats them: they may hold a secret.
func NormalizeURL(raw string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return "", fmt.Errorf("the endpoint URL cannot be read; it should look like https://host/v1")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the endpoint URL must begin with http:// or https://, like https://host/v1")
	case u.User != nil:
		return "", fmt.Errorf("the endpoint URL must not hold a user name or password; give the key with --credential-env")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("the endpoint URL must not hold a query or fragment")
	case u.Hostname() == "":
		return "", fmt.Errorf("the endpoint URL names no host")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("the endpoint URL names port %q, which is not between 1 and 65535", p)
		}
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	for cut := true; cut; { // until nothing changes, so that normalizing twice is normalizing once
		cut = false
		for _, endpoint := range []string{"/chat/completions", "/completions", "/responses", "/embeddings", "/models", "/messages"} {
			if rest, ok := strings.CutSuffix(path, endpoint); ok {
				path, cut = strings.TrimRight(rest, "/"), true
			}
		}
	}
	if path == "" {
		path = "/v1"
	}
	host := url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	return host.String() + path, nil
}

// Join appends an API path such as "/v1/chat/completions" to a base URL without
// doubling the version: the base says where the API begins.
func Join(base, path string) string {
	return strings.TrimRight(base, "/") + strings.TrimPrefix(path, "/v1")
}

// CheckModel reports why a text cannot be a model id.
func CheckModel(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("no model is named; name one with --model")
	case len(id) > maxModel:
		return fmt.Errorf("the model id has %d characters, at most %d are allowed", len(id), maxModel)
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd || (r >= 0x80 && r <= 0xa0) }):
		return fmt.Errorf("model id %q holds a space or a control character", id)
	}
	return nil
}

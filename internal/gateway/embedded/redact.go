package embedded

import (
	"regexp"

	"creel/internal/credential"
)

// Shapes of secrets that a program may write into its own log or error text:
// user information of a URL, a bearer token, a value assigned to a name that
// says what it is, provider keys, JSON web tokens.
var secretShapes = []struct {
	shape *regexp.Regexp
	with  string
}{
	{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s]+@`), "${1}" + credential.Redacted + "@"},
	{regexp.MustCompile(`(?i)(bearer\s+)[^\s"',]+`), "${1}" + credential.Redacted},
	// Not after a bare colon: that is how an error names its cause.
	{regexp.MustCompile(`(?i)([a-z0-9_-]*(?:api[_-]?key|token|secret|password|passwd|credential)(?:["']?\s*=\s*["']?|["']\s*:\s*["']?))[^\s"',]+`), "${1}" + credential.Redacted},
	{regexp.MustCompile(`\b(?:sk|nvapi|ghp|gho|xox[abp]|AIza)[-_][A-Za-z0-9_-]{8,}`), credential.Redacted},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), credential.Redacted},
}

// redact takes what looks like a secret out of text that a person will see.
func redact(s string) string {
	for _, r := range secretShapes {
		s = r.shape.ReplaceAllString(s, r.with)
	}
	return s
}

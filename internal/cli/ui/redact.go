package ui

import (
	"regexp"

	"creel/internal/credential"
)

// What is taken for a secret wherever it turns up in talk. Each pattern has one
// group in front of the value, which stays readable.
var secretPatterns = []*regexp.Regexp{
	// user info of a URL
	regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"'<>]+@`),
	// a dashboard's token
	regexp.MustCompile(`(?i)([#?&]token=)[^\s&"'<>]+`),
	// an HTTP credential
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`),
	// keys that providers issue
	regexp.MustCompile(`(\b)(?:nvapi-|sk-|sk_|ghp_|xox[abp]-|AIza)[A-Za-z0-9_-]{8,}`),
	// an age identity
	regexp.MustCompile(`(\b)AGE-SECRET-KEY-1[A-Z0-9]+`),
	// NAME=value where the name says what it is
	regexp.MustCompile(`(?i)(\b[A-Z0-9_]*(?:api_?key|secret|password|passwd)[A-Z0-9_]*\s*=\s*)[^\s"',;]{4,}`),
	// name: value, but not "bootstrap secrets: cause", which is how an error speaks
	regexp.MustCompile(`(?i)(\b[A-Z0-9_]*(?:api_?key|secret|password|passwd)(?:_[A-Z0-9_]*)?\s*:\s*)[^\s"',;]{4,}`),
}

// Redact replaces what looks like a secret: user info in URLs, dashboard tokens,
// HTTP credentials, provider keys. It is the last line of defence; secrets travel
// as credential.Secret, which never formats itself.
func Redact(s string) string {
	for i, p := range secretPatterns {
		replacement := "${1}" + credential.Redacted
		if i == 0 {
			replacement += "@"
		}
		s = p.ReplaceAllString(s, replacement)
	}
	return s
}

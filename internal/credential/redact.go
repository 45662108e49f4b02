package credential

import "regexp"

// names are what a name of a secret says.
const names = `(?:api[_-]?key|token|secret|password|passwd|credential)`

// shapes are what is taken for a secret wherever it turns up in text. What stands
// in front of the value stays readable.
var shapes = []struct {
	shape *regexp.Regexp
	with  string
}{
	// user information of a URL
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"'<>]+@`), "${1}" + Redacted + "@"},
	// a dashboard's token, or whatever else a fragment or a query calls a secret
	{regexp.MustCompile(`(?i)([#?&][a-z0-9_-]*` + names + `[a-z0-9_-]*=)[^\s&"'<>]+`), "${1}" + Redacted},
	// an HTTP credential
	{regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{7,}`), "${1}" + Redacted},
	// NAME=value and "name": "value" where the name says what it is. Not after a
	// bare colon and a space: that is how an error names its cause.
	{regexp.MustCompile(`(?i)((?:^|[^#?&a-z0-9_-])[a-z0-9_-]*` + names + `[a-z0-9_]*(?:\s*=\s*["']?|["']\s*:\s*["']?|:))[^\s"',;]{3,}`), "${1}" + Redacted},
	// keys that providers issue, an age identity, a JSON web token
	{regexp.MustCompile(`\b(?:sk|nvapi|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{8,}`), Redacted},
	{regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{8,}`), Redacted},
	{regexp.MustCompile(`\bAGE-SECRET-KEY-1[A-Z0-9]+`), Redacted},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Redacted},
}

// Redact takes what looks like a secret out of text that a person will see: user
// information of URLs, tokens, HTTP credentials, values of names that say what
// they are, providers' keys. It is the last line of defence; secrets travel as
// Secret, which never formats itself.
func Redact(text string) string {
	for _, s := range shapes {
		text = s.shape.ReplaceAllString(text, s.with)
	}
	return text
}

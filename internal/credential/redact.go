package credential

import (
	"creel/internal/printable"
	"regexp"
	"strings"
)

// names are what a name of a secret says, and named is such a name after what may
// stand in front of one; a query's are a shape of their own.
const (
	names = `(?:api[_-]?key|token|secret|password|passwd|credential)`
	named = `(?:^|[^#?&a-z0-9_-])[a-z0-9_-]*` + names + `[a-z0-9_]*`
	// introduces is what stands between a name and a value in quotes: NAME=, "name":
	// and NAME:. Not a bare colon and a space: that is how an error names its cause.
	introduces = `(?:\s*=\s*|\\?["']\s*:\s*|:)`
)

// shapes are what is taken for a secret wherever it turns up in text. What stands
// in front of the value, the first group, stays readable.
var shapes = []struct {
	shape *regexp.Regexp
	after string                       // what stays behind it
	plain func(before, it string) bool // it is no secret; may be nil
}{
	// user information of a URL, in which a password may have an @ of its own
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/"'<>]+@`), "@", nil},
	// a dashboard's token, or whatever else a fragment or a query calls a secret
	{regexp.MustCompile(`(?i)([#?&][a-z0-9_-]*` + names + `[a-z0-9_-]*=)[^\s&"'<>]+`), "", nil},
	// an HTTP credential: whatever follows a scheme in a header, elsewhere what does
	// not read as words ("basic constraints")
	{regexp.MustCompile(`(?i)(\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:bearer|basic|token)\s+)[^\s"',;\\]+`), "", nil},
	{regexp.MustCompile(`(?i)(\b(?:authorization:|bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`), "", words},
	// a value in quotes, which goes to the other quote or the end of the line: quotes
	// of a text that is itself quoted, then double and single ones
	{regexp.MustCompile(`(?i)(` + named + introduces + `\\")(?:[^\\"\n]|\\[^"\n])+`), "", nil},
	{regexp.MustCompile(`(?i)(` + named + introduces + `")(?:[^\\"\n]|\\.?)+`), "", nil},
	{regexp.MustCompile(`(?i)(` + named + introduces + `')[^'\n]+`), "", nil},
	// and one without, where a name in quotes is all that is in them:
	// Get "https://host/token": dial tcp
	{regexp.MustCompile(`(?i)(` + named + `(?:\s*=\s*|:))[^\s"',;\\]+`), "", count},
	{regexp.MustCompile(`(?i)(["'][a-z0-9_-]*` + names + `[a-z0-9_]*\\?["']\s*:\s*)[^\s"',;\\]+`), "", count},
	// keys that providers issue, an age identity, a JSON web token
	{regexp.MustCompile(`()\b(?:sk|nvapi|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{8,}`), "", nil},
	{regexp.MustCompile(`()\bAIza[A-Za-z0-9_-]{8,}`), "", nil},
	{regexp.MustCompile(`()\bAGE-SECRET-KEY-1[A-Z0-9]+`), "", nil},
	{regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), "", nil},
}

var (
	word   = regexp.MustCompile(`^(?:[A-Z]?[a-z]*|[A-Z]+)$`)
	number = regexp.MustCompile(`^[0-9]+[\])}]*$`)
	plural = regexp.MustCompile(`(?i)s["'\\\s]*[:=]\s*$`)
)

// words: it is written as words are.
func words(_, it string) bool {
	for part := range strings.FieldsFuncSeq(it, func(r rune) bool { return strings.ContainsRune("._~+/=-", r) }) {
		if !word.MatchString(part) {
			return false
		}
	}
	return true
}

// count: it is how many there are ("count/secrets=4").
func count(before, it string) bool { return number.MatchString(it) && plural.MatchString(before) }

// Redact makes text fit for a person to see: as printable.Text does, and without what looks like
// a secret. Text with colours of our own goes through Mask instead.
func Redact(text string) string { return Mask(printable.Text(text)) }

// Mask takes what looks like a secret out of text: user information of URLs, tokens,
// HTTP credentials, values of names that say what they are, providers' keys. It is the
// last line of defence; secrets travel as Secret, which never formats itself.
func Mask(text string) string {
	for _, s := range shapes {
		text = s.shape.ReplaceAllStringFunc(text, func(match string) string {
			before := s.shape.FindStringSubmatch(match)
			if before == nil {
				return Redacted // it is one only where it stood
			}
			it := match[len(before[1]):]
			if s.plain != nil && s.plain(before[1], it) {
				return match
			}
			return before[1] + Redacted + s.after
		})
	}
	return text
}

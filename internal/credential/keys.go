package credential

import "regexp"

var (
	pemBlock = regexp.MustCompile(`(?s)-----BEGIN.*?(-----END[^-]*-----|\z)`)
	longRun  = regexp.MustCompile(`[A-Za-z0-9+/=_\\-]{24,}`)
)

// RedactKeys takes what looks like key material out of text: PEM, and long runs of
// what base64 and hexadecimal are made of. It is for words of somebody who was
// sent keys and may say them back. It is no part of Redact, because it takes some
// build ids and checksums as well.
func RedactKeys(text string) string {
	text = pemBlock.ReplaceAllString(text, Redacted)
	return longRun.ReplaceAllStringFunc(text, func(run string) string {
		if looksRandom(run) {
			return Redacted
		}
		return run
	})
}

// looksRandom tells encoded bytes from long names and paths, which are in lower
// case and mostly letters.
func looksRandom(run string) bool {
	var upper, lower, digit int
	for _, c := range run {
		switch {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= '0' && c <= '9':
			digit++
		}
	}
	hex := len(run) >= 32 && upper == 0 && digit*4 >= len(run)
	return hex || upper >= 3 && lower >= 3 && (digit > 0 || upper*4 >= len(run))
}

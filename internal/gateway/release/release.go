// Package release reads and orders the versions that OpenShell's programs tell. It
// is pure: what a version means for an API, a database or a configuration is its
// users'.
package release

import (
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// Release is a version of OpenShell. The zero value is none.
type Release struct {
	canonical           string // as package semver has it: v0.0.88-rc.1
	major, minor, patch int
}

// longest is what a version that somebody else tells may have.
const longest = 80

// Parse reads 1.2.3 or 1.2 with an optional v before it, and a pre-release and a
// build after it. What is not of this form is no release (false): nothing is known
// of it.
func Parse(s string) (Release, bool) {
	s = strings.TrimSpace(s)
	s, _, _ = strings.Cut(s, " ")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "v"), "V")
	core, rest := s, ""
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		core, rest = s[:i], s[i:]
	}
	parts := strings.Split(core, ".")
	if len(parts) == 2 {
		parts = append(parts, "0")
	}
	if len(parts) != 3 {
		return Release{}, false
	}
	canonical := "v" + strings.Join(parts, ".") + rest
	if len(canonical) > longest || !semver.IsValid(canonical) {
		return Release{}, false
	}
	var numbers [3]int
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 32)
		if err != nil {
			return Release{}, false
		}
		numbers[i] = int(n)
	}
	return Release{canonical, numbers[0], numbers[1], numbers[2]}, true
}

// String is the release without a v.
func (r Release) String() string { return strings.TrimPrefix(r.canonical, "v") }

// Before reports that r is older than other, by the precedence of semantic versions:
// a pre-release is older than its release, what follows a + does not count.
func (r Release) Before(other Release) bool { return semver.Compare(r.canonical, other.canonical) < 0 }

// AtLeast reports that r belongs to that version or a later one. A pre-release
// belongs to the version that it leads up to.
func (r Release) AtLeast(major, minor, patch int) bool {
	for _, c := range [][2]int{{r.major, major}, {r.minor, minor}, {r.patch, patch}} {
		if c[0] != c[1] {
			return c[0] > c[1]
		}
	}
	return r.canonical != ""
}

package client

import (
	"fmt"
	"strconv"
	"strings"

	"creel/internal/advisory"
)

// The sandbox API that this package speaks is that of the versions after 0.0.36
// and before 0.1.
const (
	lastClusterPatch = 36
	nextMinor        = 1
)

// CheckVersion reports a gateway whose sandbox API is another one than this
// package speaks, with words that say what is supported. It judges the version
// that Health tells; the gateway itself may be as healthy as any.
func CheckVersion(version string) error {
	major, minor, patch, ok := parseVersion(version)
	said := fmt.Sprintf("the gateway is version %.40s", version)
	switch {
	case version == "":
		said = "the gateway does not tell its version"
	case !ok:
		said = fmt.Sprintf("the gateway's version %q cannot be read", version[:min(40, len(version))])
	case major > 0 || minor >= nextMinor:
		said += ", whose sandboxes are made in another way than up to 0.0.x"
	case patch <= lastClusterPatch:
		said += ", from the time when a gateway was a cluster in a container; it can be judged and repaired, and its sandboxes not be used"
	default:
		return nil
	}
	return advisory.New("gateway-version-unsupported", said+"; supported is OpenShell 0.0.37 up to, not including, 0.1", nil)
}

// ClusterEra reports a version of the time when a gateway was a cluster in a
// container.
func ClusterEra(version string) bool {
	major, minor, patch, ok := parseVersion(version)
	return ok && major == 0 && minor == 0 && patch <= lastClusterPatch
}

// parseVersion reads 1.2.3 with an optional v before and anything after - or +.
func parseVersion(s string) (major, minor, patch int, ok bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "v")
	if i := strings.IndexAny(s, "-+ "); i >= 0 {
		s = s[:i]
	}
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, 0, false
	}
	numbers := [3]int{}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return 0, 0, 0, false
		}
		numbers[i] = int(n)
	}
	return numbers[0], numbers[1], numbers[2], true
}

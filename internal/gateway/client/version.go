package client

import (
	"fmt"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/gateway/release"
)

// CheckVersion reports a gateway whose sandbox API is another one than this
// package speaks, that of OpenShell after 0.0.36 and before 0.1, with words that say
// what is supported. It judges the version that Health tells; the gateway itself may
// be as healthy as any.
func CheckVersion(version string) error {
	r, ok := release.Parse(version)
	said := "the gateway is version " + r.String()
	switch {
	case version == "":
		said = "the gateway does not tell its version"
	case !ok:
		said = fmt.Sprintf("the gateway's version %q cannot be read", credential.Redact(version[:min(40, len(version))]))
	case r.AtLeast(0, 1, 0):
		said += ", whose sandboxes are made in another way than up to 0.0.x"
	case !r.AtLeast(0, 0, 37):
		said += ", from the time when a gateway was a cluster in a container; it can be judged and repaired, and its sandboxes not be used"
	default:
		return nil
	}
	return advisory.New("gateway-version-unsupported", said+"; supported is OpenShell 0.0.37 up to, not including, 0.1", nil)
}

// ClusterEra reports a version of the time when a gateway was a cluster in a
// container.
func ClusterEra(version string) bool {
	r, ok := release.Parse(version)
	return ok && !r.AtLeast(0, 0, 37)
}

package confine

import (
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

// NetworkABI is the first Landlock ABI that can restrict TCP; the tier landlock
// needs it. Any ABI restricts files.
const NetworkABI = 4

// Support is what works on this machine, found by trying.
type Support struct {
	// Namespaces is empty when all six namespaces, a private root and a fresh
	// /proc work; otherwise why not.
	Namespaces string `json:"namespaces"`
	// LandlockABI is the kernel's version of Landlock, 0 without it.
	LandlockABI int    `json:"landlock_abi"`
	Landlock    string `json:"landlock"` // why LandlockABI is 0
	// Seccomp is empty when a filter can be loaded; otherwise why not.
	Seccomp string `json:"seccomp"`
}

// Choose decides the tier. riskAccepted is a consent and no wish: it permits
// unconfined where that was asked for by name, or where nothing stronger works.
// reason says why it is not namespaces and is empty when it is. The error carries
// the advisory "confinement-unavailable", or "confinement-risk" for an unconfined
// sandbox that nobody accepted.
func Choose(wanted sandbox.Tier, s Support, riskAccepted bool) (tier sandbox.Tier, reason string, err error) {
	namespaces, landlock := s.namespacesGap(), s.landlockGap()
	switch wanted {
	case sandbox.TierAuto, "":
		switch {
		case namespaces == "":
			return sandbox.TierNamespaces, "", nil
		case landlock == "":
			return sandbox.TierLandlock, namespaces, nil
		}
		why := fmt.Sprintf("this machine cannot confine a sandbox: %s; %s", namespaces, landlock)
		if riskAccepted {
			return sandbox.TierUnconfined, why + "; running unconfined was accepted", nil
		}
		return "", "", advisory.New("confinement-unavailable", why, nil)
	case sandbox.TierNamespaces:
		if namespaces != "" {
			return "", "", advisory.New("confinement-unavailable",
				"the tier namespaces does not work here: "+namespaces, nil)
		}
		return sandbox.TierNamespaces, "", nil
	case sandbox.TierLandlock:
		if landlock != "" {
			return "", "", advisory.New("confinement-unavailable",
				"the tier landlock does not work here: "+landlock, nil)
		}
		return sandbox.TierLandlock, "the tier landlock was asked for", nil
	case sandbox.TierUnconfined:
		if !riskAccepted {
			return "", "", advisory.New("confinement-risk",
				"an unconfined sandbox was asked for without accepting the risk", nil)
		}
		return sandbox.TierUnconfined, "running unconfined was asked for and accepted", nil
	}
	return "", "", advisory.New("confinement-unavailable",
		fmt.Sprintf("confinement %q is none of auto, namespaces, landlock, unconfined", wanted), nil)
}

func (s Support) namespacesGap() string {
	var gaps []string
	if s.Namespaces != "" {
		gaps = append(gaps, s.Namespaces)
	}
	if s.LandlockABI < 1 {
		gaps = append(gaps, "no Landlock: "+s.Landlock)
	}
	if s.Seccomp != "" {
		gaps = append(gaps, "no seccomp: "+s.Seccomp)
	}
	return strings.Join(gaps, "; ")
}

func (s Support) landlockGap() string {
	switch {
	case s.LandlockABI < 1:
		return "no Landlock: " + s.Landlock
	case s.LandlockABI < NetworkABI:
		return fmt.Sprintf("Landlock ABI %d cannot restrict the network (%d can)", s.LandlockABI, NetworkABI)
	case s.Seccomp != "":
		return "no seccomp: " + s.Seccomp
	}
	return ""
}

// cause is what on this machine is known to make the kernel refuse namespaces,
// from the values of its settings ("" for one that it does not have).
func cause(problem, maxNamespaces, clone, appArmor string, filtered, root bool) string {
	switch {
	case maxNamespaces == "0":
		return " (user.max_user_namespaces is 0)"
	case clone == "0" && !root:
		return " (kernel.unprivileged_userns_clone is 0)"
	case appArmor == "1" && !root:
		return " (AppArmor: kernel.apparmor_restrict_unprivileged_userns is 1)"
	case strings.Contains(problem, "mount /proc"):
		return " (parts of /proc are masked here, as in a container)"
	case filtered:
		return " (a seccomp filter is in force here, as in a container)"
	}
	return ""
}

package dashboard

import (
	"fmt"
	"strings"
)

// Entry is one way to open the dashboard.
type Entry struct {
	Label string `json:"label"`
	URL   string `json:"url"` // as given: mark it with DisplayURL before printing it
}

// Entries lists the ways: the access URL first, then one "Alt N" for each other
// origin, and on WSL the address that works when Windows does not carry
// localhost over. token may be empty.
func Entries(c Chain, in Input, token string) []Entry {
	if c.AccessURL == "" {
		return nil
	}
	entries := []Entry{{Label: "Dashboard", URL: AuthenticatedURL(c.AccessURL, token)}}
	seen := map[string]bool{Origin(c.AccessURL): true}
	fallback := ""
	if in.WSL && in.WSLHost != "" {
		fallback = "http://" + hostPort(in.WSLHost, c.Port)
	}
	alternatives := 0
	for _, o := range c.CORSOrigins {
		if seen[o] || o == fallback {
			continue
		}
		seen[o] = true
		alternatives++
		entries = append(entries, Entry{Label: fmt.Sprintf("Alt %d", alternatives), URL: AuthenticatedURL(o, token)})
	}
	if fallback != "" && !seen[fallback] {
		entries = append(entries, Entry{Label: "WSL fallback", URL: AuthenticatedURL(fallback, token)})
	}
	return entries
}

// Guidance is what to tell beside the entries. forwarded says that the port is
// where the entries say already, on the machine where they are opened.
func Guidance(entries []Entry, port int, forwarded, wsl bool) []string {
	if len(entries) == 0 {
		return []string{"No dashboard URLs were generated."}
	}
	var lines []string
	if !forwarded {
		lines = append(lines, fmt.Sprintf("Port %d must be forwarded before opening these URLs.", port))
	}
	if wsl {
		lines = append(lines, "WSL detected: if localhost fails in Windows, use the WSL host IP shown by `hostname -I`.")
	}
	return lines
}

// DetectWSL decides from the environment and the kernel's release string.
func DetectWSL(getenv func(string) string, kernelRelease string) bool {
	return getenv("WSL_DISTRO_NAME") != "" || getenv("WSL_INTEROP") != "" ||
		strings.Contains(strings.ToLower(kernelRelease), "microsoft")
}

// WSLHost is the address under which Windows reaches this Linux: the given one,
// else, on WSL, the first word of what `hostname -I` printed; else empty.
func WSLHost(given string, wsl bool, hostnameI string) string {
	if given != "" {
		return given
	}
	if !wsl {
		return ""
	}
	first := strings.Fields(hostnameI)
	if len(first) == 0 {
		return ""
	}
	return first[0]
}

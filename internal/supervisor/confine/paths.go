package confine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"creel/internal/advisory"
)

// systemDirectories are shown read-only as they are.
func systemDirectories() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
}

// systemFiles are the entries of the host's /etc that are shown read-only: what
// programs need to find libraries, certificates, time zones and interpreters, and
// nothing that tells of the host's users or network.
func systemFiles() []string {
	return []string{"alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies",
		"debian_version", "fonts", "inputrc", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "ld.so.cache",
		"ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "lsb-release", "magic", "mime.types", "nodejs",
		"os-release", "perl", "pki", "profile", "profile.d", "protocols", "python3", "python3.11", "python3.12",
		"python3.13", "services", "shells", "ssl", "terminfo", "timezone"}
}

// provided are the paths that a Box always has in its own way: naming them in a
// policy adds nothing.
func provided() []string {
	return append(systemDirectories(), "/etc", "/opt", "/proc", "/tmp", "/var/tmp", "/run", "/var/run", WorkspacePath,
		"/dev", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts",
		"/dev/ptmx", "/dev/shm")
}

// interfaces are trees through which the host itself could be reached.
func interfaces() []string { return []string{"/dev", "/proc", "/run", "/sys", "/var/run", "/boot"} }

// grant is a path of the policy that a Box shows.
type grant struct {
	Path     string // as the policy names it, and as it appears inside
	Resolved string // on the host, without symbolic links
	Writable bool
}

// within reports whether path is dir or below it. Both are clean and absolute.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// grants decides which paths of the policy's lists are shown. resolve follows
// symbolic links and returns "" for what does not exist; homes are the home
// directories and hidden the directories that must stay unseen, both resolved.
// The error carries the advisory "policy-path-refused".
func grants(readOnly, readWrite []string, resolve func(string) (string, error), homes, hidden []string) ([]grant, error) {
	var out []grant
	add := func(path string, writable bool) error {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return refused(path, "it is not a clean absolute path")
		}
		if slices.Contains(provided(), path) || within(path, WorkspacePath) {
			return nil
		}
		if slices.ContainsFunc(systemDirectories(), func(d string) bool { return within(path, d) }) && !writable {
			return nil
		}
		resolved, err := resolve(path)
		if err != nil {
			return refused(path, err.Error())
		}
		if resolved == "" {
			return nil
		}
		for _, p := range []string{path, resolved} {
			if why := revealing(p, homes, hidden); why != "" {
				return refused(path, why)
			}
		}
		out = append(out, grant{Path: path, Resolved: resolved, Writable: writable})
		return nil
	}
	for _, p := range readOnly {
		if err := add(p, false); err != nil {
			return nil, err
		}
	}
	for _, p := range readWrite {
		if err := add(p, true); err != nil {
			return nil, err
		}
	}
	// A directory has to be there before what lies below it, and a writable
	// grant overrides a read-only one of the same path.
	slices.SortStableFunc(out, func(a, b grant) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func revealing(path string, homes, hidden []string) string {
	if path == "/" {
		return "it is the whole file system"
	}
	for _, d := range interfaces() {
		if within(path, d) || within(d, path) {
			return "it is an interface of the host (" + d + ")"
		}
	}
	for _, d := range hidden {
		if within(path, d) || within(d, path) {
			return "it would show " + d
		}
	}
	for _, d := range homes {
		if within(d, path) {
			return "it would show the home directory " + d
		}
		if rest, ok := strings.CutPrefix(path, d+"/"); ok && strings.HasPrefix(rest, ".") {
			return "it is a hidden entry of the home directory " + d
		}
	}
	return ""
}

func refused(path, why string) error {
	return advisory.New("policy-path-refused", fmt.Sprintf("policy path %s: %s", path, why), nil)
}

package engine

import (
	"creel/internal/advisory"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Place is where an engine may listen.
type Place struct {
	Host   string // a URL in the form of DOCKER_HOST
	Source string // who says so: "flag", "DOCKER_HOST", "docker", "podman", …
	// Named: a person said so, and wants to know why it does not answer.
	Named bool
}

// String is the host, and who said so where that was a person.
func (p Place) String() string {
	if p.Named {
		return p.Host + " (" + p.Source + ")"
	}
	return p.Host
}

// Places lists where to look, in order. A place that somebody named is the only
// one. Docker comes before Podman, and an engine of the machine before one of
// the user, as the gateways that are looked for did when they were made.
func Places(o Options) []Place {
	for _, named := range []Place{{o.Host, "flag", true}, {o.Getenv("DOCKER_HOST"), "DOCKER_HOST", true}, {o.Getenv("CONTAINER_HOST"), "CONTAINER_HOST", true}} {
		if named.Host != "" {
			return []Place{named}
		}
	}
	runtime := o.Getenv("XDG_RUNTIME_DIR")
	if runtime == "" {
		runtime = "/run/user/" + strconv.Itoa(o.UID)
	}
	places := []Place{socket("/var/run/docker.sock", "docker"), socket(filepath.Join(runtime, "docker.sock"), "docker without root")}
	if home := o.Getenv("HOME"); home != "" {
		places = append(places, socket(filepath.Join(home, ".docker/run/docker.sock"), "Docker Desktop"))
	}
	return append(places, socket("/run/podman/podman.sock", "podman"), socket(filepath.Join(runtime, "podman/podman.sock"), "podman without root"))
}

func socket(path, source string) Place { return Place{Host: "unix://" + path, Source: source} }

// missing says that nothing is at any of the places.
func missing(places []Place) error {
	if len(places) == 1 && places[0].Named {
		return advisory.New("engine-missing", "find a container engine: nothing is at "+places[0].String(), nil, "env | grep -E 'DOCKER_HOST|CONTAINER_HOST'")
	}
	var looked []string
	for _, p := range places {
		looked = append(looked, strings.TrimPrefix(p.Host, "unix://"))
	}
	const some = 2
	if more := len(looked) - some; more > 1 {
		looked = append(looked[:some], fmt.Sprintf("%d other places", more))
	}
	return advisory.New("engine-missing", "find a container engine: no socket of Docker or Podman at "+strings.Join(looked, ", "), nil)
}

// local reports whether the place is a socket of this machine.
func (p Place) local() bool { return strings.HasPrefix(p.Host, "unix://") }

// program is the command line tool that works the engine of this place.
func (p Place) program() string {
	if strings.Contains(p.Host, "podman") {
		return "podman"
	}
	return "docker"
}

// exists is false only where positively nothing is and nobody said that
// something was.
func (p Place) exists() (bool, error) {
	path, ok := strings.CutPrefix(p.Host, "unix://")
	if !ok {
		if scheme, _, _ := strings.Cut(p.Host, "://"); scheme != "tcp" {
			return false, fmt.Errorf("%q is neither a unix:// nor a tcp:// address", p.Host)
		}
		return true, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !p.Named:
		return false, nil
	case err != nil:
		return false, err
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("%s is no socket", path)
	}
	return true, nil
}

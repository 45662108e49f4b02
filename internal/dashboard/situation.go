package dashboard

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Machine is what was observed of the machine and of the session on it. Package
// host observes; nothing here does.
type Machine struct {
	WSL       bool
	SSH       SSH
	Container string // the engine of the container that this is, e.g. "docker"; empty on a plain machine
	// Addresses are those that other machines may know this one by, as numbers, in
	// the order of preference.
	Addresses []string
	User      string
	Hostname  string
	Display   bool // there is a graphical session that a browser could open in
	Opener    bool // there is a program that shows URLs to the user
}

// Browser reports that a browser could be opened from here. That of a WSL is on the
// Windows side, which needs no display.
func (m Machine) Browser() bool {
	return m.Opener && (m.Display || m.WSL && !m.SSH.Session)
}

// SSH is the session's own connection, as seen from here.
type SSH struct {
	Session bool
	Address string // this machine's, as the client reached it; empty when not known
	Port    int    // of its SSH server; 0 when not known
}

// DetectSSH reads the variables that sshd sets: SSH_CONNECTION holds the client's
// address and port, then this machine's.
func DetectSSH(getenv func(string) string) SSH {
	s := SSH{Session: getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != ""}
	words := strings.Fields(getenv("SSH_CONNECTION"))
	if len(words) != 4 {
		return s
	}
	addr, err := netip.ParseAddr(words[2])
	if err != nil {
		return s
	}
	// A zone is a name of this machine's interface, which the client does not know.
	if !addr.IsLinkLocalUnicast() && addr.Zone() == "" {
		s.Address = addr.Unmap().String()
	}
	if port, err := parsePort(words[3]); err == nil {
		s.Port = port
	}
	return s
}

// Listener is where a dashboard is served on this machine, or will be.
type Listener struct {
	Bind string // Loopback or Everybody
	Port int
	// Open: no token guards what is behind it, so that nobody is told to widen it.
	Open bool
}

// Situation is how the dashboard is opened from where the person sits.
type Situation struct {
	// Kinds say what was found: "ssh", "wsl", "container", "wide", "proxy"; "local"
	// alone when it is none of these.
	Kinds []string
	// URL is the one to open, without a token.
	URL string
	// Tunnel is what to run first on the machine with the browser; empty when
	// nothing is needed.
	Tunnel []string
	// Entries are all ways, the one to open first.
	Entries []Entry
	// Guidance is one sentence each.
	Guidance []string
	// Commands are next steps, for a person to choose from.
	Commands []string
}

// Is reports whether the situation is of a kind.
func (s Situation) Is(kind string) bool {
	return slices.Contains(s.Kinds, kind)
}

// Judge says how a sandbox's dashboard is opened. The error is Build's.
func Judge(m Machine, a Access, l Listener, sandbox string) (Situation, error) {
	in := Input{URL: a.PublicURL, Port: strconv.Itoa(l.Port), WSL: m.WSL, Bind: l.Bind,
		WSLHost: WSLHost("", m.WSL, strings.Join(m.Addresses, " "))}
	c, err := Build(in)
	if err != nil {
		return Situation{}, err
	}
	loopback := "http://" + hostPort(Loopback, c.Port)
	wide := c.BindAddress == Everybody
	public := a.PublicURL != "" && Origin(c.AccessURL) != Origin(loopback)
	var s Situation
	kind := func(holds bool, name string) {
		if holds {
			s.Kinds = append(s.Kinds, name)
		}
	}
	kind(m.SSH.Session, "ssh")
	kind(m.WSL, "wsl")
	kind(m.Container != "", "container")
	kind(wide, "wide")
	kind(public, "proxy")
	kind(len(s.Kinds) == 0, "local")

	s.URL = c.AccessURL
	tunnel := m.SSH.Session && !public
	if tunnel {
		s.URL, s.Tunnel = loopback, tunnelCommand(m, c.Port)
	}
	s.URL = withPath(s.URL)
	s.Entries = entriesFor(c, in, m, s.URL)
	s.Guidance = Guidance(s.Entries, c.Port, !tunnel, m.WSL && wide)
	s.advise(m, c, a, l, sandbox, wide, public)
	return s, nil
}

// Origins are those of the pages by which a dashboard is opened, the one on loopback
// first: of every URL that Judge names, and of the declared one. The error is
// Build's.
func Origins(m Machine, a Access, l Listener) ([]string, error) {
	s, err := Judge(m, a, l, "")
	if err != nil {
		return nil, err
	}
	origins := []string{Origin("http://" + hostPort(Loopback, l.Port))}
	add := func(url string) {
		if o := Origin(url); o != "" && !slices.Contains(origins, o) {
			origins = append(origins, o)
		}
	}
	for _, e := range s.Entries {
		add(e.URL)
	}
	if a.PublicURL != "" {
		add(a.PublicURL)
	}
	return origins, nil
}

// advise adds how to open it signed in, and what depends on who can reach the
// listener.
func (s *Situation) advise(m Machine, c Chain, a Access, l Listener, sandbox string, wide, public bool) {
	change := "creel dashboard " + sandbox
	if !l.Open && m.Browser() {
		s.Commands = append(s.Commands, change+" --open")
	}
	if elsewhere := !m.Browser() || m.SSH.Session || m.Container != "" || wide || public; !l.Open && elsewhere {
		s.Commands = append(s.Commands, change+" --show-token")
	}
	switch {
	case public && wide && a.proxied():
		s.Guidance = append(s.Guidance, "The listener itself is open on every address of this machine; a proxy on this machine needs it on loopback only.")
		s.Commands = append(s.Commands, change+" --bind "+Loopback)
	case public || m.Container == "":
	case wide:
		s.Guidance = append(s.Guidance, fmt.Sprintf("This is a container (%s): publish port %d to open the dashboard on the machine that runs it, at http://localhost:%d/. For other machines declare the URL that they open.",
			m.Container, c.Port, c.Port))
		s.Commands = append(s.Commands, change+" --public-url URL")
	case !m.SSH.Session:
		inside := fmt.Sprintf("This is a container (%s): port %d of its loopback is reached from outside by what forwards into it, as an editor that is attached to it does.", m.Container, c.Port)
		if !l.Open {
			inside += fmt.Sprintf(" Or start the container with -p %s:%d:%d, which publishes the port to its machine alone, and give this command --bind %s.", Loopback, c.Port, c.Port, Everybody)
		}
		s.Guidance = append(s.Guidance, inside)
	}
}

// tunnelCommand is what makes the dashboard's port one of the machine that the
// session comes from.
func tunnelCommand(m Machine, port int) []string {
	host := m.SSH.Address
	if host == "" {
		host = m.Hostname
	}
	command := []string{"ssh", "-L", fmt.Sprintf("%d:%s:%d", port, Loopback, port)}
	if m.SSH.Port != 0 && m.SSH.Port != 22 {
		command = append(command, "-p", strconv.Itoa(m.SSH.Port))
	}
	if m.User != "" {
		host = m.User + "@" + host
	}
	return append(command, host)
}

// entriesFor are the chain's entries with the one to open first in front, and
// where the listener is wide the addresses that other machines may use.
func entriesFor(c Chain, in Input, m Machine, first string) []Entry {
	all := Entries(c, in, "")
	seen := map[string]bool{}
	var entries []Entry
	alternatives := 0
	add := func(label, url string) {
		o := Origin(url)
		if seen[o] {
			return
		}
		seen[o] = true
		if label == "" {
			alternatives++
			label = fmt.Sprintf("Alt %d", alternatives)
		}
		entries = append(entries, Entry{Label: label, URL: withPath(url)})
	}
	add("Dashboard", first)
	for _, e := range all {
		if e.Label == "WSL fallback" {
			add(e.Label, e.URL)
		} else {
			add("", e.URL)
		}
	}
	if c.BindAddress == Everybody {
		for _, address := range m.Addresses {
			// Everybody is every address of IPv4.
			if a, err := netip.ParseAddr(address); err == nil && a.Is4() {
				add("", "http://"+hostPort(address, c.Port))
			}
		}
	}
	return entries
}

// withPath ends a URL that has no path with a slash, as browsers show it.
func withPath(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" && u.Path == "" && u.RawQuery == "" {
		return raw + "/"
	}
	return raw
}

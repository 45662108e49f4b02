// Package dashboard is the access contract of an agent's web page: which URL a
// person opens, where the listener is bound and what a forward's target is, all
// derived from what is known and nothing else. It is pure: no I/O, no
// environment. Package probe beside it does the asking.
//
// The rules are those of the product's dashboard access specification, section 1.
package dashboard

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"creel/internal/advisory"
)

// DefaultPort is the dashboard's port when nobody says otherwise.
const DefaultPort = 18789

// The addresses that a listener is ever bound to.
const (
	Loopback  = "127.0.0.1"
	Everybody = "0.0.0.0"
)

// Input is what is known about how the dashboard shall be reached.
type Input struct {
	// URL is what the user opens, e.g. "https://agent.example:8443/x" or
	// "agent.example"; empty when the user did not say.
	URL string
	// Port is the explicit port as the user wrote it; empty without one.
	Port string
	// WSL says that this is a Linux inside Windows; WSLHost is then its address
	// as Windows sees it, if known (see WSLHost).
	WSL     bool
	WSLHost string
	// Bind overrides where the listener is: Everybody widens it, Loopback keeps it
	// narrow although the rules below would widen it, as for a proxy on this
	// machine. Nothing else is valid but "".
	Bind string
	// HealthPath is what the agent's manifest says; empty without one.
	HealthPath string
}

// Chain is everything that follows from an Input.
type Chain struct {
	AccessURL     string   // what a person opens, without token, no trailing slash added
	CORSOrigins   []string // loopback origin first, no duplicates
	ForwardTarget string   // "PORT" or "0.0.0.0:PORT", as OpenShell's forward command takes it
	BindAddress   string   // Loopback or Everybody
	HealthPath    string
	Port          int
	// DeviceAuth says that the page must ask for the token even so: true whenever
	// more than this machine can reach it, be it through a proxy.
	DeviceAuth bool
}

// CheckBind reports an address that a listener cannot have; an empty one leaves it
// to the rest.
func CheckBind(address string) error {
	switch address {
	case "", Loopback, Everybody:
		return nil
	}
	return fmt.Errorf("bind address %q is neither %s nor %s", address, Loopback, Everybody)
}

// CheckWide reports a value of the environment's override that is not Everybody:
// it can only widen, so that a wrong one is never taken for a narrow one. The error
// is an *advisory.Problem "dashboard-bind-invalid".
func CheckWide(override string) error {
	if override == Everybody {
		return nil
	}
	return advisory.New("dashboard-bind-invalid", fmt.Sprintf("it can only be %s, not %q", Everybody, override), nil)
}

// Build derives the chain. The errors are *advisory.Problem
// (dashboard-url-invalid, dashboard-port-invalid, dashboard-bind-invalid).
func Build(in Input) (Chain, error) {
	var given *url.URL
	if strings.TrimSpace(in.URL) != "" {
		u, err := parse(in.URL)
		if err != nil {
			return Chain{}, advisory.New("dashboard-url-invalid", fmt.Sprintf("dashboard URL %q", DisplayURL(in.URL)), err)
		}
		given = u
	}
	port, err := choosePort(in.Port, given)
	if err != nil {
		return Chain{}, err
	}
	if err := CheckBind(in.Bind); err != nil {
		return Chain{}, advisory.New("dashboard-bind-invalid", err.Error(), nil)
	}

	local := given == nil || isLoopback(given.Hostname())
	c := Chain{Port: port, HealthPath: in.HealthPath, BindAddress: Loopback, ForwardTarget: strconv.Itoa(port), DeviceAuth: !local}
	if in.Bind == Everybody || in.Bind == "" && (in.WSL || !local) {
		c.BindAddress = Everybody
		c.ForwardTarget = net.JoinHostPort(Everybody, strconv.Itoa(port))
		c.DeviceAuth = true
	}
	loopback := "http://" + net.JoinHostPort(Loopback, strconv.Itoa(port))
	switch {
	case !local || proxied(given):
		c.AccessURL = openable(given, port)
	case in.WSL && in.WSLHost != "" && c.BindAddress == Everybody:
		c.AccessURL = "http://" + hostPort(in.WSLHost, port)
	default:
		c.AccessURL = loopback
	}
	c.CORSOrigins = []string{Origin(loopback)}
	if o := Origin(c.AccessURL); o != c.CORSOrigins[0] {
		c.CORSOrigins = append(c.CORSOrigins, o)
	}
	return c, nil
}

// proxied: a URL of this machine that no listener of ours can answer, because it
// is TLS or below a path, is that of a proxy in front.
func proxied(u *url.URL) bool {
	return u != nil && (u.Scheme == "https" || strings.Trim(u.Path, "/") != "")
}

// openable is the URL as given, but for a port that no browser takes: that one
// is what the port was derived as.
func openable(u *url.URL, port int) string {
	if p := u.Port(); p != "" {
		if _, err := parsePort(p); err != nil {
			given := *u
			given.Host = hostPort(u.Hostname(), port)
			return given.String()
		}
	}
	return u.String()
}

// choosePort takes the explicit port, else the URL's, else the default. Only an
// explicit port can be wrong: one that came along with a URL falls back.
func choosePort(explicit string, given *url.URL) (int, error) {
	if explicit != "" {
		port, err := parsePort(explicit)
		if err != nil {
			return 0, advisory.New("dashboard-port-invalid", "dashboard port", err)
		}
		return port, nil
	}
	if given != nil {
		if port, err := parsePort(given.Port()); err == nil {
			return port, nil
		}
	}
	return DefaultPort, nil
}

func parsePort(s string) (int, error) {
	for _, r := range s {
		if r < '0' || r > '9' {
			return 0, fmt.Errorf("%q is not a number from 1 to 65535", s)
		}
	}
	port, err := strconv.Atoi(s)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("%q is not a number from 1 to 65535", s)
	}
	return port, nil
}

// ForwardPort is the port that a forward for this URL needs: the URL's own, else
// the default.
func ForwardPort(raw string) int {
	u, err := parse(raw)
	if err != nil {
		return DefaultPort
	}
	port, err := choosePort("", u)
	if err != nil {
		return DefaultPort
	}
	return port
}

// ForwardCommand is what a user of an OpenShell client runs to open the same
// forward by hand.
func ForwardCommand(target, sandbox string) []string {
	return []string{"openshell", "forward", "start", "--background", target, sandbox}
}

package dashboard

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"creel/internal/advisory"
)

// What is declared travels in front of every connection, so it stays small.
const (
	maxURL     = 1024 // bytes
	maxProxies = 32
)

// Access is what was declared about how a dashboard is reached. The zero value
// declares nothing.
type Access struct {
	// PublicURL is where people open the dashboard when something stands in front
	// of it, e.g. "https://agent.example/claw"; see CheckPublicURL.
	PublicURL string `json:"public_url,omitempty"`
	// TrustedProxies are networks, as "10.1.0.0/16", whose X-Forwarded-* headers are
	// believed; see CheckProxies.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`
}

// Equal reports whether both declare the same.
func (a Access) Equal(b Access) bool {
	return a.PublicURL == b.PublicURL && slices.Equal(a.TrustedProxies, b.TrustedProxies)
}

// CheckPublicURL returns the URL as it is recorded: with a scheme, a host as
// browsers send it, and neither query nor fragment. The error is an
// *advisory.Problem "dashboard-url-invalid".
func CheckPublicURL(raw string) (string, error) {
	refuse := func(err error) (string, error) {
		return "", advisory.New("dashboard-url-invalid", fmt.Sprintf("public URL %q", DisplayURL(raw)), err)
	}
	u, err := parse(raw)
	if err != nil {
		return refuse(err)
	}
	if u.Port() != "" {
		if _, err := parsePort(u.Port()); err != nil {
			return refuse(fmt.Errorf("its port is out of range: %w", err))
		}
	}
	if u.RawQuery != "" || u.ForceQuery {
		return refuse(errors.New("it must not hold a query"))
	}
	if strings.ContainsAny(u.Path, "\\") || strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return refuse(errors.New("its path holds what no browser sends"))
	}
	text := u.String()
	if len(text) > maxURL {
		return refuse(fmt.Errorf("it is longer than %d bytes", maxURL))
	}
	return text, nil
}

// CheckProxies returns the networks as they are recorded: in CIDR form, masked,
// each once. A single address is a network of one. The error is an
// *advisory.Problem "dashboard-proxies-invalid".
func CheckProxies(given []string) ([]string, error) {
	refuse := func(detail string) ([]string, error) {
		return nil, advisory.New("dashboard-proxies-invalid", detail, nil)
	}
	var out []string
	for _, text := range given {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		network, ok := parseNetwork(text)
		if !ok {
			return refuse(fmt.Sprintf("%q is neither an address nor a network such as 10.1.0.0/16", text))
		}
		if network.Bits() == 0 {
			return refuse(text + " is every machine there is: their headers would be believed")
		}
		if s := network.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) > maxProxies {
		return refuse(fmt.Sprintf("%d networks, at most %d are taken", len(out), maxProxies))
	}
	return out, nil
}

func parseNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, false
	}
	return network.Masked(), true
}

// Trusted are the networks of TrustedProxies.
func (a Access) Trusted() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range a.TrustedProxies {
		if network, ok := parseNetwork(text); ok {
			all = append(all, network)
		}
	}
	return all
}

// Prefix is the path below which the public URL has the dashboard, e.g. "/claw";
// empty when it has it at the root.
func (a Access) Prefix() string {
	u, err := parse(a.PublicURL)
	if a.PublicURL == "" || err != nil {
		return ""
	}
	p := path.Clean("/" + u.Path)
	if p == "/" {
		return ""
	}
	return p
}

// proxied reports that what answers at the public URL must be a proxy.
func (a Access) proxied() bool {
	u, err := parse(a.PublicURL)
	return a.PublicURL != "" && err == nil && proxied(u)
}

// ListenPort is the port that a listener is best bound to for a public URL, 0
// when the URL says nothing about that: one of TLS, or below a path, is answered
// by a proxy, whose port is taken.
func (a Access) ListenPort() int {
	u, err := parse(a.PublicURL)
	if a.PublicURL == "" || err != nil || proxied(u) {
		return 0
	}
	port, err := parsePort(u.Port())
	if err != nil {
		return 0
	}
	return port
}

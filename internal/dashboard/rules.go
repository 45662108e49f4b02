package dashboard

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Rules decide, for one connection, who may ask an agent's page: what was
// declared, and what the kernel says of the connection.
type Rules struct {
	origin  string // of the public URL; empty without one
	host    string // its host
	prefix  string
	proxies []netip.Prefix
	peer    netip.Addr
	local   netip.Addr
}

// Rules are those for a connection from peer that came in at the machine's address
// local. Declarations that cannot be read declare nothing.
func (a Access) Rules(peer, local netip.Addr) Rules {
	r := Rules{prefix: a.Prefix(), peer: peer.Unmap(), local: local.Unmap()}
	if u, err := parse(a.PublicURL); a.PublicURL != "" && err == nil {
		r.origin, r.host = Origin(u.String()), strings.TrimSuffix(canonicalHost(u.Hostname()), ".")
	}
	for _, text := range a.TrustedProxies {
		if network, ok := parseNetwork(text); ok {
			r.proxies = append(r.proxies, network)
		}
	}
	return r
}

// Prefix is the path below which the public URL has the page, e.g. "/claw".
func (r Rules) Prefix() string { return r.prefix }

// Headers are what a request says of itself. Each of the forwarded ones may have
// been sent several times.
type Headers struct {
	Host           string
	ForwardedFor   []string // X-Forwarded-For
	ForwardedProto []string // X-Forwarded-Proto
	ForwardedHost  []string // X-Forwarded-Host
}

// Request is what is believed of a request.
type Request struct {
	// Client is who asks: the connection's peer, or who a declared proxy says it is
	// asking for. The zero value is nobody known.
	Client netip.Addr
	// Host is the name and port that it asks for, as a browser writes them; empty
	// when that is no host at all.
	Host   string
	Scheme string // "http" or "https"

	rules Rules
}

// Read believes the forwarded headers when the connection comes from a declared
// proxy, and else nothing of them.
func (r Rules) Read(h Headers) Request {
	q := Request{Client: r.peer, Scheme: "http", rules: r}
	host := h.Host
	if r.trusted(r.peer) {
		q.Client = r.client(h.ForwardedFor)
		// Of what several proxies added the last is what the declared one said.
		if last := lastOf(h.ForwardedHost); last != "" {
			host = last
		}
		if strings.EqualFold(lastOf(h.ForwardedProto), "https") {
			q.Scheme = "https"
		}
	}
	if name, port, ok := splitHost(host); ok {
		q.Host = strings.TrimPrefix(originOf(q.Scheme, name, port), q.Scheme+"://")
	}
	return q
}

func (r Rules) trusted(addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(r.proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// client walks the list from its end, which the nearest proxy wrote, past those
// that are declared. What they do not vouch for ends the walk.
func (r Rules) client(forwarded []string) netip.Addr {
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	client := r.peer
	for i := len(hops) - 1; i >= 0 && r.trusted(client); i-- {
		text := strings.TrimSpace(hops[i])
		addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if err != nil {
			port, err := netip.ParseAddrPort(text)
			if err != nil {
				return client
			}
			addr = port.Addr()
		}
		client = addr.Unmap().WithZone("")
	}
	return client
}

func lastOf(values []string) string {
	list := strings.Split(strings.Join(values, ","), ",")
	return strings.TrimSpace(list[len(list)-1])
}

// splitHost reads a Host header: "name", "name:port", "[address]:port".
func splitHost(hostport string) (name, port string, ok bool) {
	name, port, err := net.SplitHostPort(hostport)
	if err != nil {
		if name = hostport; strings.HasPrefix(name, "[") != strings.HasSuffix(name, "]") {
			return "", "", false
		}
		name, port = strings.Trim(name, "[]"), ""
		if name != hostport && !strings.Contains(name, ":") {
			return "", "", false
		}
	} else if _, err := parsePort(port); err != nil {
		return "", "", false
	}
	ascii, err := checkHost(name)
	return name, port, err == nil && ascii == name
}

// HostAllowed reports whether the request asks for a name under which this page
// may be opened: loopback, the very address that the connection came in at, or
// the declared one. Under any other name it may be another website whose name was
// pointed here (DNS rebinding).
func (q Request) HostAllowed() bool {
	name, _, ok := splitHost(q.Host)
	if !ok {
		return false
	}
	if isLoopback(name) {
		return true
	}
	name = strings.TrimSuffix(canonicalHost(name), ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		if addr = addr.Unmap(); addr == q.rules.local {
			return true
		}
	}
	return name == q.rules.host
}

// OriginAllowed reports whether a request comes from a page of this dashboard: the
// one that it asks for, or the one at the public URL. A browser always says where
// a WebSocket comes from, so silence is a refusal.
func (q Request) OriginAllowed(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	o := originOf(u.Scheme, u.Hostname(), u.Port())
	return o == q.rules.origin && o != "" || q.HostAllowed() && o == q.Scheme+"://"+q.Host
}

// Sockets are where the page may open its WebSocket, as a content policy names
// them. It is only asked of a request whose host is allowed.
func (q Request) Sockets() []string {
	socket := func(o string) string { return "ws" + strings.TrimPrefix(o, "http") }
	all := []string{socket(q.Scheme + "://" + q.Host)}
	if o := q.rules.origin; o != "" && socket(o) != all[0] {
		all = append(all, socket(o))
	}
	return all
}

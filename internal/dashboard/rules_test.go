package dashboard

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// Under which names a page may be opened: everything else may be a website whose
// name was pointed here.
func TestHostAllowed(t *testing.T) {
	public := Access{PublicURL: "https://Agent.Example:8443/claw"}
	tests := []struct {
		access  Access
		local   string
		host    string
		allowed bool
	}{
		{Access{}, "127.0.0.1", "localhost", true},
		{Access{}, "127.0.0.1", "localhost:18789", true},
		{Access{}, "127.0.0.1", "LOCALHOST:80", true},
		{Access{}, "127.0.0.1", "localhost.:80", true},
		{Access{}, "127.0.0.1", "127.0.0.1", true},
		{Access{}, "127.0.0.1", "127.1.2.3:1", true},
		{Access{}, "127.0.0.1", "[::1]:18789", true},
		{Access{}, "127.0.0.1", "[::1]", true},
		{Access{}, "", "127.0.0.1:9999", true}, // a forward of somebody else's
		{Access{}, "127.0.0.1", "", false},
		{Access{}, "127.0.0.1", ":80", false},
		{Access{}, "127.0.0.1", "localhost:", false},
		{Access{}, "127.0.0.1", "localhost:0", false},
		{Access{}, "127.0.0.1", "localhost:99999", false},
		{Access{}, "127.0.0.1", "localhost:80:80", false},
		{Access{}, "127.0.0.1", "[localhost]:80", true}, // a browser cannot send it, and nobody else can be it
		{Access{}, "127.0.0.1", "[localhost", false},
		{Access{}, "127.0.0.1", "[::1", false},
		{Access{}, "127.0.0.1", "agent.example", false},
		{Access{}, "127.0.0.1", "127.0.0.1.example", false},
		{Access{}, "127.0.0.1", "localhost.example", false},
		{Access{}, "127.0.0.1", "0.0.0.0:18789", false},
		{Access{}, "127.0.0.1", "[::]:80", false},
		{Access{}, "127.0.0.1", "127.0.0.1 ", false},
		{Access{}, "127.0.0.1", "2130706433", false},
		{Access{}, "127.0.0.1", "0x7f.1", false},
		{Access{}, "127.0.0.1", "localhost;", false},
		{Access{}, "127.0.0.1", "[::1%lo]:80", false},
		// The address that the connection came in at, and no other.
		{Access{}, "192.168.1.5", "192.168.1.5:18789", true},
		{Access{}, "::ffff:192.168.1.5", "192.168.1.5:18789", true},
		{Access{}, "192.168.1.5", "[::ffff:c0a8:105]:18789", true},
		{Access{}, "192.168.1.5", "192.168.1.6:18789", false},
		{Access{}, "127.0.0.1", "192.168.1.5:18789", false},
		{Access{}, "fd00::2", "[fd00:0::2]:1", true},
		{Access{}, "", "0.0.0.0:1", false},
		// The declared one.
		{public, "127.0.0.1", "agent.example:8443", true},
		{public, "127.0.0.1", "agent.example", true}, // proxies often leave the port out
		{public, "127.0.0.1", "AGENT.example.", true},
		{public, "127.0.0.1", "www.agent.example", false},
		{public, "127.0.0.1", "agent.example.evil.example", false},
		{public, "127.0.0.1", "127.0.0.1:18789", true},
		{Access{PublicURL: "::::"}, "127.0.0.1", "agent.example", false},
	}
	for _, tt := range tests {
		q := tt.access.Rules(addr("203.0.113.9"), addr(tt.local)).Read(Headers{Host: tt.host})
		if got := q.HostAllowed(); got != tt.allowed {
			t.Errorf("%+v at %s: host %q allowed = %v", tt.access, tt.local, tt.host, got)
		}
	}
}

func TestOriginAllowed(t *testing.T) {
	public := Access{PublicURL: "https://agent.example:8443/claw"}
	tests := []struct {
		access       Access
		host, origin string
		allowed      bool
	}{
		{Access{}, "127.0.0.1:18789", "http://127.0.0.1:18789", true},
		{Access{}, "localhost:9999", "http://localhost:9999", true},
		{Access{}, "localhost", "http://localhost", true},
		{Access{}, "192.0.2.7:18789", "http://192.0.2.7:18789", true},
		{Access{}, "127.0.0.1:18789", "", false},
		{Access{}, "127.0.0.1:18789", "null", false},
		{Access{}, "127.0.0.1:18789", "http://127.0.0.1:1", false},
		{Access{}, "127.0.0.1:18789", "http://localhost:18789", false},
		{Access{}, "127.0.0.1:18789", "https://127.0.0.1:18789", false}, // nobody declared a proxy of TLS
		{Access{}, "127.0.0.1:18789", "http://127.0.0.1:18789/", false},
		{Access{}, "127.0.0.1:18789", "http://me@127.0.0.1:18789", false},
		{Access{}, "127.0.0.1:18789", "chrome-extension://127.0.0.1:18789", false},
		{Access{}, "127.0.0.1:18789", "http://attacker.example", false},
		{Access{}, "attacker.example", "http://attacker.example", false},
		{Access{}, "", "", false},
		{public, "agent.example:8443", "https://agent.example:8443", true},
		{public, "agent.example", "https://agent.example:8443", true},
		{public, "127.0.0.1:18789", "https://agent.example:8443", true}, // a proxy that keeps its own name
		{public, "127.0.0.1:18789", "http://127.0.0.1:18789", true},
		{public, "agent.example:8443", "https://agent.example", false},
		{public, "agent.example:8443", "https://agent.example:8443.evil.example", false},
		{public, "agent.example:8443", "https://evil.example", false},
	}
	for _, tt := range tests {
		q := tt.access.Rules(addr("203.0.113.9"), addr("192.0.2.7")).Read(Headers{Host: tt.host})
		if got := q.OriginAllowed(tt.origin); got != tt.allowed {
			t.Errorf("%+v: host %q, origin %q allowed = %v", tt.access, tt.host, tt.origin, got)
		}
	}
}

// What a proxy says counts only when it was declared; then the nearest that is not
// declared is who asks.
func TestForwardedHeaders(t *testing.T) {
	access := Access{PublicURL: "https://agent.example", TrustedProxies: []string{"10.0.0.0/8", "::1/128", "broken"}}
	type seen struct{ Client, Host, Scheme string }
	tests := []struct {
		name string
		peer string
		h    Headers
		want seen
	}{
		{"no proxy", "203.0.113.9", Headers{Host: "agent.example"}, seen{"203.0.113.9", "agent.example", "http"}},
		{"undeclared", "203.0.113.9", Headers{Host: "h", ForwardedFor: []string{"1.1.1.1"}, ForwardedProto: []string{"https"}, ForwardedHost: []string{"agent.example"}},
			seen{"203.0.113.9", "h", "http"}},
		{"declared", "10.0.0.1", Headers{Host: "h", ForwardedFor: []string{"198.51.100.7"}, ForwardedProto: []string{"https"}, ForwardedHost: []string{"agent.example"}},
			seen{"198.51.100.7", "agent.example", "https"}},
		{"declared and silent", "10.0.0.1", Headers{Host: "h:81"}, seen{"10.0.0.1", "h:81", "http"}},
		{"a client that lies to a proxy that appends", "10.0.0.1", Headers{ForwardedFor: []string{"1.1.1.1, 198.51.100.7"}}, seen{"198.51.100.7", "", "http"}},
		{"in several lines", "10.0.0.1", Headers{ForwardedFor: []string{"1.1.1.1", "198.51.100.7"}}, seen{"198.51.100.7", "", "http"}},
		{"two declared proxies", "10.0.0.1", Headers{ForwardedFor: []string{"1.1.1.1, 198.51.100.7, 10.0.0.2"}}, seen{"198.51.100.7", "", "http"}},
		{"all of the way", "10.0.0.1", Headers{ForwardedFor: []string{"10.0.0.3, 10.0.0.2"}}, seen{"10.0.0.3", "", "http"}},
		{"with ports", "10.0.0.1", Headers{ForwardedFor: []string{"198.51.100.7:99"}}, seen{"198.51.100.7", "", "http"}},
		{"IPv6 with a port", "10.0.0.1", Headers{ForwardedFor: []string{"[2001:db8::9]:99"}}, seen{"2001:db8::9", "", "http"}},
		{"IPv6 in brackets", "10.0.0.1", Headers{ForwardedFor: []string{"[2001:db8::9]"}}, seen{"2001:db8::9", "", "http"}},
		{"rubbish", "10.0.0.1", Headers{ForwardedFor: []string{"198.51.100.7, unknown"}}, seen{"10.0.0.1", "", "http"}},
		{"a mapped peer", "::ffff:10.0.0.1", Headers{ForwardedFor: []string{"198.51.100.7"}}, seen{"198.51.100.7", "", "http"}},
		{"IPv6 loopback", "::1", Headers{ForwardedFor: []string{"198.51.100.7"}}, seen{"198.51.100.7", "", "http"}},
		{"the last protocol counts", "10.0.0.1", Headers{ForwardedProto: []string{"https, http"}}, seen{"10.0.0.1", "", "http"}},
		{"the last host counts", "10.0.0.1", Headers{ForwardedHost: []string{"evil.example, agent.example:443"}, ForwardedProto: []string{"HTTPS"}}, seen{"10.0.0.1", "agent.example", "https"}},
		{"a host that is none", "10.0.0.1", Headers{Host: "agent.example", ForwardedHost: []string{"a b"}}, seen{"10.0.0.1", "", "http"}},
		{"no peer", "", Headers{Host: "h", ForwardedFor: []string{"1.1.1.1"}}, seen{"invalid IP", "h", "http"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := access.Rules(addr(tt.peer), addr("10.0.0.9")).Read(tt.h)
			if diff := cmp.Diff(tt.want, seen{q.Client.String(), q.Host, q.Scheme}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A proxy that is not declared cannot make another name pass.
func TestSpoofedHostChangesNothing(t *testing.T) {
	access := Access{PublicURL: "https://agent.example", TrustedProxies: []string{"10.0.0.1/32"}}
	h := Headers{Host: "evil.example", ForwardedHost: []string{"agent.example"}, ForwardedProto: []string{"https"}}
	if q := access.Rules(addr("10.0.0.2"), addr("10.0.0.9")).Read(h); q.HostAllowed() || q.Scheme != "http" {
		t.Errorf("believed an undeclared proxy: %+v", q)
	}
	if q := access.Rules(addr("10.0.0.1"), addr("10.0.0.9")).Read(h); !q.HostAllowed() || q.Scheme != "https" {
		t.Errorf("did not believe the declared proxy: %+v", q)
	}
	h = Headers{Host: "127.0.0.1", ForwardedHost: []string{"evil.example"}}
	if q := access.Rules(addr("10.0.0.1"), addr("10.0.0.9")).Read(h); q.HostAllowed() {
		t.Errorf("what the declared proxy was asked for is not looked at: %+v", q)
	}
	https := Headers{Host: "localhost:8443", ForwardedProto: []string{"https"}}
	if q := access.Rules(addr("10.0.0.1"), addr("10.0.0.9")).Read(https); !q.OriginAllowed("https://localhost:8443") || q.OriginAllowed("http://localhost:8443") {
		t.Errorf("the declared proxy's protocol does not count: %+v", q)
	}
}

package dashboard

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
)

func TestBuild(t *testing.T) {
	local := func(port string, n int) Chain {
		return Chain{
			AccessURL: "http://127.0.0.1:" + port, CORSOrigins: []string{"http://127.0.0.1:" + port},
			ForwardTarget: port, BindAddress: "127.0.0.1", Port: n,
		}
	}
	wide := func(access string, origins []string, port string, n int) Chain {
		return Chain{
			AccessURL: access, CORSOrigins: origins, ForwardTarget: "0.0.0.0:" + port,
			BindAddress: "0.0.0.0", Port: n, DeviceAuth: true,
		}
	}
	loop := "http://127.0.0.1:18789"
	tests := []struct {
		name string
		in   Input
		want Chain
	}{
		{"nothing known", Input{}, local("18789", 18789)},
		{"blank URL is none", Input{URL: "  "}, local("18789", 18789)},
		{"explicit port", Input{Port: "19000"}, local("19000", 19000)},
		{"explicit port beats the URL's", Input{Port: "19000", URL: "http://localhost:1234"}, local("19000", 19000)},
		{"URL's port", Input{URL: "http://localhost:1234"}, local("1234", 1234)},
		{"URL's port without a scheme", Input{URL: "127.0.0.1:1234"}, local("1234", 1234)},
		{"derived port 0 falls back", Input{URL: "http://localhost:0"}, local("18789", 18789)},
		{"derived port too large falls back", Input{URL: "http://localhost:99999"}, local("18789", 18789)},
		{"all of 127/8 is loopback", Input{URL: "http://127.9.8.7"}, local("18789", 18789)},
		{"IPv6 loopback", Input{URL: "http://[::1]:7777/"}, local("7777", 7777)},
		{"LOCALHOST", Input{URL: "HTTP://LOCALHOST:7777"}, local("7777", 7777)},
		{"localhost in front of a domain is not loopback", Input{URL: "http://localhost.example"},
			wide("http://localhost.example", []string{loop, "http://localhost.example"}, "18789", 18789)},
		{"127.0.0.1 in front of a domain is not loopback", Input{URL: "http://127.0.0.1.example"},
			wide("http://127.0.0.1.example", []string{loop, "http://127.0.0.1.example"}, "18789", 18789)},
		{"remote URL as given", Input{URL: "https://agent.example/base/path?x=1"},
			wide("https://agent.example/base/path?x=1", []string{loop, "https://agent.example"}, "18789", 18789)},
		{"remote URL gets a scheme", Input{URL: "agent.example:8443"},
			wide("http://agent.example:8443", []string{"http://127.0.0.1:8443", "http://agent.example:8443"}, "8443", 8443)},
		{"remote URL never keeps a fragment", Input{URL: "https://agent.example/#token=abc"},
			wide("https://agent.example/", []string{loop, "https://agent.example"}, "18789", 18789)},
		{"a port of a remote URL that no browser takes is the derived one", Input{URL: "http://agent.example:99999/x"},
			wide("http://agent.example:18789/x", []string{loop, "http://agent.example:18789"}, "18789", 18789)},
		{"a name in another script is as browsers send it", Input{URL: "https://Bücher.example:8443/ä"},
			wide("https://xn--bcher-kva.example:8443/%C3%A4", []string{"http://127.0.0.1:8443", "https://xn--bcher-kva.example:8443"}, "8443", 8443)},
		{"digits of another script are digits", Input{URL: "http://１２７.0.0.1:7777"}, local("7777", 7777)},
		{"an IPv6 origin is as browsers write it", Input{URL: "http://[FD00:0:0::2]:9000"},
			wide("http://[FD00:0:0::2]:9000", []string{"http://127.0.0.1:9000", "http://[fd00::2]:9000"}, "9000", 9000)},
		{"a mapped IPv4 address is one of IPv4", Input{URL: "http://[::ffff:127.0.0.1]:7777"}, local("7777", 7777)},
		{"an upper-case scheme", Input{URL: "HTTPS://agent.example"},
			wide("https://agent.example", []string{loop, "https://agent.example"}, "18789", 18789)},
		{"an origin has no default port", Input{URL: "https://Agent.Example:443", Port: "18789"},
			wide("https://Agent.Example:443", []string{loop, "https://agent.example"}, "18789", 18789)},
		{"WSL with an address", Input{WSL: true, WSLHost: "172.20.1.2"},
			wide("http://172.20.1.2:18789", []string{loop, "http://172.20.1.2:18789"}, "18789", 18789)},
		{"WSL with an IPv6 address", Input{WSL: true, WSLHost: "fd00::2", Port: "9000"},
			wide("http://[fd00::2]:9000", []string{"http://127.0.0.1:9000", "http://[fd00::2]:9000"}, "9000", 9000)},
		{"WSL without an address", Input{WSL: true}, wide(loop, []string{loop}, "18789", 18789)},
		{"an address without WSL means nothing", Input{WSLHost: "172.20.1.2"}, local("18789", 18789)},
		{"WSL and a remote URL: the URL wins", Input{WSL: true, WSLHost: "172.20.1.2", URL: "https://agent.example"},
			wide("https://agent.example", []string{loop, "https://agent.example"}, "18789", 18789)},
		{"WSL kept on loopback has no address of Windows", Input{WSL: true, WSLHost: "172.20.1.2", Bind: "127.0.0.1"}, local("18789", 18789)},
		{"a remote URL of a proxy on this machine", Input{URL: "https://agent.example", Bind: "127.0.0.1"}, func() Chain {
			c := local("18789", 18789)
			c.AccessURL, c.DeviceAuth = "https://agent.example", true
			c.CORSOrigins = []string{loop, "https://agent.example"}
			return c
		}()},
		{"a loopback URL of TLS is a proxy's", Input{URL: "https://localhost:8443", Port: "18789"}, func() Chain {
			c := local("18789", 18789)
			c.AccessURL, c.CORSOrigins = "https://localhost:8443", []string{loop, "https://localhost:8443"}
			return c
		}()},
		{"a loopback URL below a path is a proxy's", Input{URL: "http://localhost:8080/claw/", Port: "18789"}, func() Chain {
			c := local("18789", 18789)
			c.AccessURL, c.CORSOrigins = "http://localhost:8080/claw/", []string{loop, "http://localhost:8080"}
			return c
		}()},
		{"loopback said explicitly", Input{Bind: "127.0.0.1"}, local("18789", 18789)},
		{"bind override", Input{Bind: "0.0.0.0"}, wide(loop, []string{loop}, "18789", 18789)},
		{"health path is the manifest's", Input{HealthPath: "/health"}, func() Chain {
			c := local("18789", 18789)
			c.HealthPath = "/health"
			return c
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Build(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct {
		name, id string
		in       Input
	}{
		{"port 0", "dashboard-port-invalid", Input{Port: "0"}},
		{"port too large", "dashboard-port-invalid", Input{Port: "65536"}},
		{"port with a sign", "dashboard-port-invalid", Input{Port: "+80"}},
		{"port that is a word", "dashboard-port-invalid", Input{Port: "http"}},
		{"an explicit bad port is an error beside a good URL", "dashboard-port-invalid", Input{Port: "x", URL: "http://localhost:80"}},
		{"scheme", "dashboard-url-invalid", Input{URL: "ftp://agent.example"}},
		{"script", "dashboard-url-invalid", Input{URL: "javascript://agent.example/%0aalert(1)"}},
		{"no host", "dashboard-url-invalid", Input{URL: "http://:80"}},
		{"spaces in the host", "dashboard-url-invalid", Input{URL: "http://a b"}},
		{"user information", "dashboard-url-invalid", Input{URL: "https://me:hunter2@agent.example"}},
		{"bind to one address", "dashboard-bind-invalid", Input{Bind: "192.168.1.2"}},
		{"an address with a zone", "dashboard-url-invalid", Input{URL: "http://[fe80::1%25eth0]"}},
		{"an address in short", "dashboard-url-invalid", Input{URL: "http://127.1:80"}},
		{"an address as one number", "dashboard-url-invalid", Input{URL: "http://2130706433"}},
		{"an address in hexadecimal", "dashboard-url-invalid", Input{URL: "http://0x7f.0.0.1"}},
		{"a name that would end a header", "dashboard-url-invalid", Input{URL: "http://a;script-src"}},
		{"a name in no script", "dashboard-url-invalid", Input{URL: "http://xn--\u00fc"}},
		{"bind to another loopback", "dashboard-bind-invalid", Input{Bind: "127.0.0.2"}},
		{"bind to loopback by name", "dashboard-bind-invalid", Input{Bind: "localhost"}},
		{"bind with a space", "dashboard-bind-invalid", Input{Bind: "0.0.0.0 "}},
		{"bind to IPv6", "dashboard-bind-invalid", Input{Bind: "::"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Build(tt.in)
			p, ok := advisory.Of(err)
			if !ok || p.ID != tt.id {
				t.Fatalf("Build = %+v, %v; want advisory %s", got, err, tt.id)
			}
			if _, known := advisory.Lookup(p.ID); !known {
				t.Errorf("advisory %q is not in the registry", p.ID)
			}
		})
	}
}

func TestForward(t *testing.T) {
	ports := map[string]int{
		"http://localhost:1234": 1234, "agent.example": 18789, "https://agent.example:443/x": 443,
		"http://localhost:0": 18789, "::::": 18789, "": 18789,
	}
	for raw, want := range ports {
		if got := ForwardPort(raw); got != want {
			t.Errorf("ForwardPort(%q) = %d, want %d", raw, got, want)
		}
	}
	want := []string{"openshell", "forward", "start", "--background", "0.0.0.0:18789", "demo"}
	if diff := cmp.Diff(want, ForwardCommand("0.0.0.0:18789", "demo")); diff != "" {
		t.Errorf("ForwardCommand (-want +got):\n%s", diff)
	}
}

package app

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/dashboard"
	"creel/internal/host"
)

// From what the machine says to the URL that opens there.
func TestMachineToURL(t *testing.T) {
	sources := func(kernel string, env map[string]string, files ...string) host.Sources {
		return host.Sources{
			Getenv: func(n string) string { return env[n] }, Kernel: func() string { return kernel },
			Exists: func(p string) bool {
				for _, f := range files {
					if f == p {
						return true
					}
				}
				return false
			},
			Read: func(string) string { return "" }, User: func() string { return "me" }, Hostname: func() string { return "box" },
			Interfaces: func() []host.Interface {
				return []host.Interface{{Name: "lo", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
					{Name: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("172.20.1.2")}}}
			},
		}
	}
	const linux, wsl = "6.8.0-41-generic", "5.15.153.1-Microsoft-standard-WSL2"
	for _, c := range []struct {
		name string
		s    host.Sources
		want string
		kind []string
	}{
		{"a plain machine", sources(linux, nil), "http://127.0.0.1:18789/", []string{"local"}},
		{"WSL by its kernel", sources(wsl, nil), "http://172.20.1.2:18789/", []string{"wsl", "wide"}},
		{"WSL by its name", sources(linux, map[string]string{"WSL_DISTRO_NAME": "Debian"}), "http://172.20.1.2:18789/", []string{"wsl", "wide"}},
		{"WSL by its bridge to Windows", sources(linux, map[string]string{"WSL_INTEROP": "/run/WSL/1_interop"}), "http://172.20.1.2:18789/", []string{"wsl", "wide"}},
		{"SSH into a WSL", sources(wsl, map[string]string{"SSH_CONNECTION": "10.0.0.1 5 172.20.1.2 22"}), "http://127.0.0.1:18789/", []string{"ssh", "wsl", "wide"}},
		{"SSH", sources(linux, map[string]string{"SSH_TTY": "/dev/pts/0"}), "http://127.0.0.1:18789/", []string{"ssh"}},
		{"a container", sources(linux, nil, "/.dockerenv"), "http://127.0.0.1:18789/", []string{"container"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(c.s)
			chain, err := dashboard.Build(dashboard.Input{WSL: m.WSL})
			if err != nil {
				t.Fatal(err)
			}
			got, err := dashboard.Judge(m, dashboard.Access{}, dashboard.Listener{Bind: chain.BindAddress, Port: chain.Port}, "claw")
			if err != nil || got.URL != c.want {
				t.Errorf("URL %q, %v; want %q", got.URL, err, c.want)
			}
			if diff := cmp.Diff(c.kind, got.Kinds); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
			if m.User != "me" || m.Hostname != "box" {
				t.Errorf("machine %+v", m)
			}
		})
	}
}

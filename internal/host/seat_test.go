package host

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestSeat(t *testing.T) {
	env := map[string]string{"WAYLAND_DISPLAY": "wayland-0", "container": "lxc"}
	got := Sources{
		Getenv: func(n string) string { return env[n] }, Kernel: func() string { return "5.15.153.1-microsoft-standard-WSL2" },
		Exists: func(string) bool { return false }, Read: func(string) string { return "" },
		User: func() string { return "me" }, Hostname: func() string { return "box" },
		Interfaces: func() []Interface {
			return []Interface{
				{"lo", addrs("127.0.0.1", "::1")},
				{"docker0", addrs("172.17.0.1")},
				{"eth0", addrs("fd00::2", "fe80::1", "192.0.2.7", "169.254.1.1")},
				{"wg0", addrs("10.9.0.1", "192.0.2.7")},
				{"vethabc", addrs("10.8.0.1")},
			}
		},
	}.Seat()
	want := Seat{Kernel: "5.15.153.1-microsoft-standard-WSL2", Container: "lxc", Display: true, User: "me", Hostname: "box",
		Addresses: []string{"192.0.2.7", "10.9.0.1", "fd00::2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSeatOfThisMachine(t *testing.T) {
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	s := Sources{}.Seat()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if s.Kernel == "" || s.User == "" || s.Hostname != host || s.Display || slices.Contains(s.Addresses, "127.0.0.1") {
		t.Errorf("Seat = %+v", s)
	}
}

func TestContainer(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   map[string]string
		files map[string]string
		want  string
	}{
		{"plain machine", nil, map[string]string{"/proc/1/cgroup": "0::/init.scope\n"}, ""},
		{"docker", nil, map[string]string{"/.dockerenv": ""}, "docker"},
		{"podman", nil, map[string]string{"/run/.containerenv": ""}, "podman"},
		{"a pod", map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, map[string]string{"/.dockerenv": ""}, "kubernetes"},
		{"nspawn", nil, map[string]string{"/run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"},
		{"lxc", map[string]string{"container": "lxc"}, nil, "lxc"},
		{"by its control group", nil, map[string]string{"/proc/1/cgroup": "12:pids:/kubepods/besteffort/pod1\n"}, "kubepods"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := container(func(n string) string { return c.env[n] },
				func(p string) bool { _, ok := c.files[p]; return ok },
				func(p string) string { return c.files[p] })
			if got != c.want {
				t.Errorf("container = %q, want %q", got, c.want)
			}
		})
	}
}

package host

import (
	"net"
	"net/netip"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strings"
)

// Seat is where a person sits, as far as this machine can tell. A fact that
// could not be read is its zero value.
type Seat struct {
	Kernel    string // release
	Container string // "docker", "podman", "kubernetes", "lxc", …; "" on a plain machine
	Display   bool   // a graphical session that a browser could open in
	User      string // the account's name
	Hostname  string
	// Addresses are those by which other machines may know this one, as numbers:
	// those of IPv4 first, in the order of the interfaces.
	Addresses []string
}

// Sources is where a seat's facts come from. A nil one is the machine's own.
type Sources struct {
	Getenv     func(string) string
	Kernel     func() string
	Exists     func(path string) bool
	Read       func(path string) string // what is readable of a small file
	Interfaces func() []Interface
	User       func() string
	Hostname   func() string
}

// Interface is a network interface that is up.
type Interface struct {
	Name      string
	Addresses []netip.Addr
}

// Seat reads the facts.
func (s Sources) Seat() Seat {
	s = s.withDefaults()
	return Seat{
		Kernel:    s.Kernel(),
		Container: container(s.Getenv, s.Exists, s.Read),
		Display:   s.Getenv("DISPLAY") != "" || s.Getenv("WAYLAND_DISPLAY") != "" || runtime.GOOS == "darwin",
		User:      s.User(),
		Hostname:  s.Hostname(),
		Addresses: addresses(s.Interfaces()),
	}
}

func (s Sources) withDefaults() Sources {
	if s.Getenv == nil {
		s.Getenv = os.Getenv
	}
	if s.Kernel == nil {
		s.Kernel = kernelRelease
	}
	if s.Exists == nil {
		s.Exists = exists
	}
	if s.Read == nil {
		s.Read = readSmall
	}
	if s.Interfaces == nil {
		s.Interfaces = interfaces
	}
	if s.User == nil {
		s.User = accountName
	}
	if s.Hostname == nil {
		s.Hostname = func() string { name, _ := os.Hostname(); return name }
	}
	return s
}

func accountName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

func interfaces() []Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var up []Interface
	for _, i := range all {
		list, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		one := Interface{Name: i.Name}
		for _, a := range list {
			if network, ok := a.(*net.IPNet); ok {
				if addr, ok := netip.AddrFromSlice(network.IP); ok {
					one.Addresses = append(one.Addresses, addr.Unmap())
				}
			}
		}
		up = append(up, one)
	}
	return up
}

// inward begin the names of interfaces that lead to containers and virtual
// machines on this machine, and to nobody else.
var inward = []string{"docker", "br-", "veth", "virbr", "podman", "cni", "cali", "flannel", "lxc", "lxdbr", "vnet"}

// addresses are those of interfaces that lead out of the machine.
func addresses(all []Interface) []string {
	var found []netip.Addr
	for _, i := range all {
		if slices.ContainsFunc(inward, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) }) {
			continue
		}
		for _, a := range i.Addresses {
			if a.IsGlobalUnicast() && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	out := make([]string, len(found))
	for i, a := range found {
		out[i] = a.String()
	}
	return out
}

// container names the container that this process runs in, from the marks that
// engines leave.
func container(getenv func(string) string, exists func(string) bool, read func(string) string) string {
	switch {
	case getenv("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case exists("/run/.containerenv"):
		return "podman"
	case exists("/.dockerenv"):
		return "docker"
	}
	// systemd's convention for whoever starts a container.
	if v := strings.TrimSpace(read("/run/systemd/container")); v != "" {
		return v
	}
	if v := getenv("container"); v != "" {
		return v
	}
	for _, engine := range []string{"kubepods", "docker", "containerd", "lxc"} {
		if strings.Contains(read("/proc/1/cgroup"), "/"+engine) {
			return engine
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readSmall(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, _ := f.Read(b)
	return string(b[:n])
}

// Package nethosts makes network namespaces that stand for hosts on one wire, so
// that tests can be clients from another address. Nothing of them is connected to
// the machine's own network.
package nethosts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"creel/test/require"
)

// dialTime is how long a connection may take that nobody refuses.
const dialTime = 5 * time.Second

// wire is the network between the two; it exists nowhere else.
const wire = "10.213.77.%d/24"

// Host is a network namespace with loopback and one address on the wire.
type Host struct {
	Address string // on the wire

	ns   *os.File
	link string
}

// Pair makes two hosts on one wire, for as long as the test runs. It needs root.
func Pair(t testing.TB) (*Host, *Host) {
	t.Helper()
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: others cannot make network namespaces with addresses")
	a, b := newHost(t), newHost(t)
	if err := a.Do(func() error { return join(a, b) }); err != nil {
		t.Fatalf("join two network namespaces: %v", err)
	}
	for i, h := range []*Host{a, b} {
		ip, network, err := net.ParseCIDR(fmt.Sprintf(wire, i+1))
		if err != nil {
			t.Fatal(err)
		}
		network.IP, h.Address = ip, ip.String()
		if err := h.Do(func() error { return configure(h.link, network) }); err != nil {
			t.Fatalf("configure network namespace: %v", err)
		}
	}
	return a, b
}

func newHost(t testing.TB) *Host {
	t.Helper()
	h := &Host{}
	if err := aside(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			h.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	}); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// join puts a pair of interfaces into the two namespaces; the calling thread is in
// a's.
func join(a, b *Host) error {
	a.link, b.link = "wire0", "wire1"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a.link}, PeerName: b.link}); err != nil {
		return err
	}
	peer, err := netlink.LinkByName(b.link)
	if err != nil {
		return err
	}
	return netlink.LinkSetNsFd(peer, int(b.ns.Fd()))
}

func configure(name string, network *net.IPNet) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, &netlink.Addr{IPNet: network}), netlink.LinkSetUp(link), netlink.LinkSetUp(lo))
}

// Unplug takes the host off the wire: nothing that is sent arrives, and nobody is
// told.
func (h *Host) Unplug() error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(h.link)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
}

// Do runs f on a thread that is in the host's namespace: what f connects,
// listens on or starts is there, what goroutines that f begins do is not.
func (h *Host) Do(f func() error) error {
	return aside(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// aside runs f on a thread that is not used for anything else afterwards.
func aside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread's namespace is what /proc/net shows to the whole program,
			// and it never ends: while it is held here f gets another one.
			defer runtime.UnlockOSThread()
			done <- aside(f)
			return
		}
		done <- f() // never unlocked: the thread ends with its goroutine
	}()
	return <-done
}

// Dial connects from the host to an address, which must not be a name.
func (h *Host) Dial(address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = (&net.Dialer{Timeout: dialTime}).Dial("tcp4", address)
		return err
	})
	return c, err
}

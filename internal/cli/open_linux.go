package cli

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ownConnection reports whether the client's end of a loopback connection
// belongs to this user or to root, as the kernel says in /proc/net/tcp. When the
// kernel does not say, it does not belong.
func ownConnection(client, server net.Addr) bool {
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		uid, found := socketOwner(bufio.NewScanner(f), client, server)
		_ = f.Close()
		if found {
			return uid == 0 || uid == ownUID()
		}
	}
	return false
}

// established is the state of a socket that is connected, TCP_ESTABLISHED.
const established = "01"

// socketOwner finds the connected socket from local to remote in a table of the form
// of proc(5), /proc/net/tcp.
func socketOwner(table *bufio.Scanner, local, remote net.Addr) (uid int, found bool) {
	wantLocal, errLocal := netip.ParseAddrPort(local.String())
	wantRemote, errRemote := netip.ParseAddrPort(remote.String())
	if errLocal != nil || errRemote != nil {
		return 0, false
	}
	for table.Scan() {
		fields := strings.Fields(table.Text())
		if len(fields) < 8 || fields[3] != established { // one that is over may have been anybody's
			continue
		}
		l, errL := kernelAddress(fields[1])
		r, errR := kernelAddress(fields[2])
		if errL != nil || errR != nil || l != wantLocal || r != wantRemote {
			continue
		}
		uid, err := strconv.Atoi(fields[7])
		return uid, err == nil
	}
	return 0, false
}

// kernelAddress parses ADDRESS:PORT in hexadecimal; the address is in words of
// the machine's byte order, which is little-endian on every Linux that Go's
// releases of Creel are built for.
func kernelAddress(s string) (netip.AddrPort, error) {
	address, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(address)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("socket address %q has another form", s)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("socket address %q has another form", s)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

//go:build !linux

package cli

import "net"

// ownConnection cannot ask the kernel here; the address can only be guessed.
func ownConnection(net.Addr, net.Addr) bool { return true }

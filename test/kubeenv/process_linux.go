package kubeenv

import (
	"fmt"
	"os"
	"syscall"
)

// dieWithParent makes a child end when the test program does, however it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// port is a port of 127.0.0.1 that is held for a cluster.
type port struct {
	number int
	fd     int
}

// soReusePort is SO_REUSEPORT, which package syscall lacks (asm-generic/socket.h).
const soReusePort = 15

// reservePort binds a free port without listening: nobody else is given it while
// the API server is down, connections to it are refused, and the API server may
// bind it because both set SO_REUSEPORT. That option is set after the bind so
// that the bind is not shared with another test's port.
func reservePort() (*port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &port{fd: fd}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		p.release()
		return nil, os.NewSyscallError("bind", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1); err != nil {
		p.release()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		p.release()
		return nil, os.NewSyscallError("getsockname", err)
	}
	in4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		p.release()
		return nil, fmt.Errorf("getsockname: a %T", name)
	}
	p.number = in4.Port
	return p, nil
}

func (p *port) release() {
	if p != nil {
		_ = syscall.Close(p.fd)
	}
}

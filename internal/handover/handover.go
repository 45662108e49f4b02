// Package handover passes an open TCP connection from a sandbox's supervisor to
// its gateway, as a descriptor over a Unix socket, so that what the connection
// carries goes from kernel to kernel. It knows neither what a channel is nor who
// may take it: that is for its users to say.
//
// One Unix connection carries one: the supervisor writes a line of JSON that names
// the channel and proves who it is, with the descriptor beside it, and is answered
// with a line of JSON.
package handover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"creel/internal/credential"
	"creel/internal/socket"
)

// maxLine bounds a line; a sandbox's token has about 1 KiB.
const maxLine = 16 << 10

// Offer is what goes along with a connection.
type Offer struct {
	Channel string            // that the gateway asked for
	Token   credential.Secret // of the sandbox whose connection it is
}

type offer struct {
	Channel string `json:"channel"`
	Token   string `json:"token"`
}

type answer struct {
	Error string `json:"error,omitempty"` // empty: taken
}

// Refused is the error of an offer that the gateway did not take.
type Refused struct{ Reason string }

// Error is the gateway's reason.
func (r *Refused) Error() string { return "hand over connection: refused: " + r.Reason }

// Send offers c to the gateway that listens on path and returns when it was
// taken. Where another user listens nothing is sent. c stays the caller's: a connection that was taken lives on when it is
// closed here.
func Send(ctx context.Context, path string, o Offer, c *net.TCPConn) (err error) {
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("hand over connection: %w", err)
	}
	u, err := socket.Dial(ctx, path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = u.Close() }()
	defer context.AfterFunc(ctx, func() { _ = u.Close() })()
	line, err := json.Marshal(offer{Channel: o.Channel, Token: o.Token.Reveal()})
	if err != nil {
		return fail(err)
	}
	if err := write(u, append(line, '\n'), c); err != nil {
		return fail(err)
	}
	reply, files, err := read(u)
	closeAll(files)
	if err != nil {
		return fail(err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return fail(errors.New("the answer is no JSON"))
	}
	if a.Error != "" {
		return &Refused{a.Error}
	}
	return nil
}

// Receive reads the offer on u, whose deadline is the caller's to set. The
// connection is one to a loopback address, as seen from where it was made, and the
// caller's to close.
func Receive(u *net.UnixConn) (Offer, *net.TCPConn, error) {
	line, files, err := read(u)
	defer closeAll(files)
	if err != nil {
		return Offer{}, nil, fmt.Errorf("receive connection: %w", err)
	}
	var o offer
	if json.Unmarshal(line, &o) != nil { // its words may quote the token
		return Offer{}, nil, errors.New("receive connection: the offer is no JSON")
	}
	if len(files) != 1 {
		return Offer{}, nil, fmt.Errorf("receive connection: %d descriptors came, not one", len(files))
	}
	c, err := connection(files[0])
	if err != nil {
		return Offer{}, nil, fmt.Errorf("receive connection: %w", err)
	}
	return Offer{Channel: o.Channel, Token: credential.NewSecret(o.Token)}, c, nil
}

// Answer says on u what came of an offer; nil is taken.
func Answer(u *net.UnixConn, refused error) error {
	var a answer
	if refused != nil {
		a.Error = refused.Error()
	}
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return write(u, append(line, '\n'), nil)
}

// connection makes a connection of a descriptor, if it is one.
func connection(f *os.File) (*net.TCPConn, error) {
	some, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c, is := some.(*net.TCPConn)
	if !is {
		_ = some.Close()
		return nil, errors.New("the descriptor is no TCP connection")
	}
	to, is := c.RemoteAddr().(*net.TCPAddr)
	if !is || !loopback(to.AddrPort().Addr()) {
		_ = c.Close()
		return nil, errors.New("the connection does not lead to a loopback address")
	}
	return c, nil
}

func loopback(a netip.Addr) bool { return a.Unmap().IsLoopback() }

// write sends a line, with a connection's descriptor unless that is nil.
func write(u *net.UnixConn, line []byte, c *net.TCPConn) error {
	if len(line) > maxLine {
		return fmt.Errorf("a line has %d bytes, at most %d are allowed", len(line), maxLine)
	}
	send := func(rights []byte) error {
		n, _, err := u.WriteMsgUnix(line, rights, nil)
		if err == nil && n < len(line) {
			_, err = u.Write(line[n:])
		}
		return err
	}
	if c == nil {
		return send(nil)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = send(syscall.UnixRights(int(fd))) }); err != nil {
		return err
	}
	return sent
}

// read takes one line and the descriptors beside it, which are the caller's to
// close whatever the error.
func read(u *net.UnixConn) (line []byte, files []*os.File, err error) {
	buffer, control := make([]byte, maxLine), make([]byte, syscall.CmsgSpace(4*4))
	have := 0
	for have < len(buffer) {
		n, cn, flags, _, err := u.ReadMsgUnix(buffer[have:], control)
		files = append(files, descriptors(control[:cn])...)
		switch {
		case err != nil:
			return nil, files, err
		case n == 0:
			return nil, files, errors.New("it ended before its line did")
		case flags&syscall.MSG_CTRUNC != 0:
			return nil, files, errors.New("more descriptors came than are taken")
		}
		have += n
		if i := bytes.IndexByte(buffer[:have], '\n'); i >= 0 {
			return buffer[:i], files, nil
		}
	}
	return nil, files, fmt.Errorf("a line of more than %d bytes came", maxLine)
}

func descriptors(control []byte) []*os.File {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

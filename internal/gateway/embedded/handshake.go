package embedded

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/credential"
)

// handshakeVariable tells a launched daemon which descriptors its launcher
// listens on: "READ,WRITE".
const handshakeVariable = "CREEL_HANDSHAKE"

// The descriptors as the child sees them: the first two extra files.
const handshakeDescriptors = "3,4"

// maxLine bounds one line of the handshake.
const maxLine = 64 << 10

// hello is what the launcher says: a nonce that the answer must repeat, and the
// wanted port.
type hello struct {
	Nonce        string `json:"nonce"`
	Port         int    `json:"port,omitempty"`
	PortExplicit bool   `json:"port_explicit,omitempty"`
}

// answer is the daemon's one line: that it serves, or why it does not.
type answer struct {
	Nonce      string   `json:"nonce"`
	InstanceID string   `json:"instance_id,omitempty"`
	PID        int      `json:"pid,omitempty"`
	Endpoint   endpoint `json:"endpoint,omitzero"`
	Error      string   `json:"error,omitempty"`
	Advisory   string   `json:"advisory,omitempty"`
}

// check reports an answer that is none to this launcher: of another one, of
// another process, or without an endpoint.
func (a answer) check(nonce string, pid int) error {
	switch {
	case a.Nonce != nonce:
		return errors.New("it answered with another launch's nonce")
	case a.Error != "":
		return nil
	case a.PID != pid:
		return fmt.Errorf("pid %d answered for the child %d", a.PID, pid)
	case a.InstanceID == "":
		return errors.New("it answered without an instance id")
	}
	return a.Endpoint.check()
}

func readLine(r io.Reader, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// launcher is the daemon's end of the handshake; nil when nobody launched it
// (it runs in the foreground or under a service manager).
type launcher struct {
	hello hello
	up    *os.File
}

// openLauncher finds the handshake in the environment and takes it out, so that
// nothing that the daemon starts can see it or hold its pipe open.
func openLauncher() (*launcher, error) {
	v := os.Getenv(handshakeVariable)
	if v == "" {
		return nil, nil
	}
	if err := os.Unsetenv(handshakeVariable); err != nil {
		return nil, err
	}
	down, up, err := parseDescriptors(v)
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(down)
	syscall.CloseOnExec(up)
	read := os.NewFile(uintptr(down), "launcher")
	defer read.Close()
	l := &launcher{up: os.NewFile(uintptr(up), "launcher")}
	if err := readLine(read, &l.hello); err != nil {
		return nil, fmt.Errorf("read the launcher's greeting: %w", err)
	}
	return l, nil
}

func parseDescriptors(v string) (down, up int, err error) {
	a, b, _ := strings.Cut(v, ",")
	down, err = strconv.Atoi(a)
	if err == nil {
		up, err = strconv.Atoi(b)
	}
	if err != nil || down < 3 || up < 3 || down == up {
		return 0, 0, fmt.Errorf("%s=%q names no two descriptors", handshakeVariable, v)
	}
	return down, up, nil
}

// ready tells the launcher that the daemon serves. A launcher that went away in
// the meantime is no reason to stop serving.
func (l *launcher) ready(id string, e endpoint) {
	if l == nil || l.up == nil {
		return
	}
	_ = writeLine(l.up, answer{Nonce: l.hello.Nonce, InstanceID: id, PID: os.Getpid(), Endpoint: e})
	l.close()
}

// failed tells the launcher why the daemon does not serve, and reports whether it was
// told: whoever listens to nobody is not.
func (l *launcher) failed(err error) (told bool) {
	if l == nil || l.up == nil {
		return false
	}
	a := answer{Nonce: l.hello.Nonce, PID: os.Getpid(), Error: credential.Redact(err.Error())}
	if p, ok := advisory.Of(err); ok {
		a.Advisory = p.ID
	}
	told = writeLine(l.up, a) == nil
	l.close()
	return told
}

func (l *launcher) close() {
	_ = l.up.Close()
	l.up = nil
}

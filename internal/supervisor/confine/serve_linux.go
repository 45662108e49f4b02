package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"creel/internal/budget"
	"creel/internal/sandbox"
)

// server is the confined first process of a Box: it starts what the supervisor
// asks for and reaps what ends.
type server struct {
	plan plan
	conn *net.UnixConn
	send sync.Mutex // one datagram at a time

	// children guards running. It is held from before a fork until the child is
	// entered, so that no end is reaped before its beginning is known.
	children sync.Mutex
	running  map[int]uint64 // pid → ID of the spawn
	pids     map[uint64]int
}

// serve is the last stage. It returns when the supervisor has gone.
func serve(ctx context.Context) int {
	// Nothing inside may look into this process or take its descriptors.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 1
	}
	unix.CloseOnExec(controlFD)
	unix.CloseOnExec(planFD)
	signals := make(chan os.Signal, 64)
	// Caught, not ignored: an ignored signal would stay ignored in what is started.
	signal.Notify(signals)
	// A channel of its own: a flood of other signals must not hide an end.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	s := &server{running: map[int]uint64{}, pids: map[uint64]int{}}
	conn, err := net.FileConn(os.NewFile(controlFD, "control"))
	if err != nil {
		return 1
	}
	s.conn = conn.(*net.UnixConn)
	if s.plan, err = readPlan(); err != nil {
		s.say(event{Error: err.Error(), Advisory: "confinement-failed"})
		return 1
	}
	if s.plan.Tier != sandbox.TierNamespaces {
		// Orphans have to come here to be found when the Box ends.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			s.say(event{Error: fmt.Sprintf("become the reaper: %v", err), Advisory: "confinement-failed"})
			return 1
		}
	}
	if err := s.makeTemp(); err != nil {
		s.say(event{Error: err.Error(), Advisory: "confinement-failed"})
		return 1
	}
	o, err := observe(s.plan)
	if err != nil {
		s.say(event{Error: err.Error(), Advisory: "confinement-failed"})
		return 1
	}
	s.say(event{Ready: &o})
	go func() {
		for range signals {
		}
	}()
	go func() {
		for range ended {
			s.reap()
		}
	}()
	s.answer(ctx)
	if s.plan.Tier != sandbox.TierNamespaces {
		killDescendants(os.Getpid())
	}
	return 0
}

// answer serves requests until the supervisor's end of the socket closes.
func (s *server) answer(ctx context.Context) {
	buffer, control := make([]byte, maxMessage), make([]byte, 256)
	for {
		n, cn, flags, _, err := s.conn.ReadMsgUnix(buffer, control)
		if err != nil || n == 0 {
			return
		}
		files := descriptors(control[:cn])
		r, err := decodeRequest(buffer[:n])
		if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			err = errors.New("request was cut off")
		}
		if err == nil && r.Filed {
			r, files, err = unfile(r, files)
		}
		if err != nil {
			closeAll(files)
			s.fail(r.ID, err)
			continue
		}
		switch r.Op {
		case opSpawn:
			go s.spawn(r, files)
		case opSignal:
			go s.signal(r)
		case opListen:
			go s.listen(ctx, r)
		case opDial:
			go s.dial(ctx, r)
		default:
			closeAll(files)
			s.fail(r.ID, fmt.Errorf("unknown operation %q", r.Op))
		}
	}
}

// say sends an event with descriptors. An error means that the supervisor has
// gone, which answer notices.
func (s *server) say(e event, fds ...int) {
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte(`{"error":"event cannot be encoded"}`)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	s.send.Lock()
	defer s.send.Unlock()
	_, _, _ = s.conn.WriteMsgUnix(b, rights, nil)
}

func (s *server) fail(id uint64, err error) {
	e := event{ID: id, Error: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Errno = errno
	}
	s.say(e)
}

// reap collects every process that has ended and tells of those that were asked
// for.
func (s *server) reap() {
	s.children.Lock()
	defer s.children.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		id, ok := s.running[pid]
		if !ok {
			continue
		}
		delete(s.running, pid)
		delete(s.pids, id)
		e := event{ID: id, Exit: true, Code: status.ExitStatus()}
		if status.Signaled() {
			e.Sig = int(status.Signal())
			e.Code = 128 + e.Sig
		}
		s.say(e)
	}
}

// signal sends a signal to every process of a spawned process's session, which
// can hold several process groups when it is a shell.
func (s *server) signal(r request) {
	s.children.Lock()
	defer s.children.Unlock()
	pid, ok := s.pids[r.Process]
	if !ok {
		s.say(event{ID: r.ID, Done: true})
		return
	}
	err := unix.Kill(-pid, r.Signal)
	for _, other := range processes() {
		if other.session == pid && other.group != pid {
			_ = unix.Kill(other.pid, r.Signal) // it may have ended by now
		}
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		s.fail(r.ID, fmt.Errorf("signal process group: %w", err))
		return
	}
	s.say(event{ID: r.ID})
}

func (s *server) listen(ctx context.Context, r request) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)))
	if err != nil {
		s.fail(r.ID, err)
		return
	}
	defer func() { _ = l.Close() }()
	s.pass(r.ID, l.(*net.TCPListener))
}

func (s *server) dial(ctx context.Context, r request) {
	ctx, cancel := budget.Context(ctx, budget.TCP, "connect inside the sandbox")
	defer cancel()
	c, err := dialLoopback(ctx, r.Port)
	if err != nil {
		s.fail(r.ID, err)
		return
	}
	defer func() { _ = c.Close() }()
	s.pass(r.ID, c.(*net.TCPConn))
}

func (s *server) pass(id uint64, c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { s.say(event{ID: id}, int(fd)) })
	}
	if err != nil {
		s.fail(id, fmt.Errorf("pass the socket out: %w", err))
	}
}

// dialLoopback connects to a port on either loopback address.
func dialLoopback(ctx context.Context, port int) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return c, nil
	}
	if c, err6 := d.DialContext(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(port))); err6 == nil {
		return c, nil
	}
	return nil, err
}

// descriptors takes the files out of a datagram's control part.
func descriptors(control []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

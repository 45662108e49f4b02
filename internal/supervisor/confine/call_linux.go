package confine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"creel/internal/budget"
)

type reply struct {
	event event
	files []*os.File
}

// call sends a request and waits for its answer. A process is entered under the
// request's ID before the request leaves, so that its end is never missed.
func (b *Box) call(ctx context.Context, r request, files []*os.File, p *Process) (reply, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	if b.gone {
		b.mu.Unlock()
		return reply{}, ErrGone
	}
	b.next++
	r.ID = b.next
	b.pending[r.ID] = answer
	if p != nil {
		p.id = r.ID
		b.processes[r.ID] = p
	}
	b.mu.Unlock()
	if err := b.write(r, files); err != nil {
		b.forget(r.ID)
		return reply{}, err
	}
	select {
	case got := <-answer:
		if got.event.Error != "" {
			closeAll(got.files)
			b.forget(r.ID)
			return reply{}, &Refusal{Message: got.event.Error, Errno: got.event.Errno}
		}
		return got, nil
	case <-b.broken:
		b.forget(r.ID)
		return reply{}, ErrGone
	case <-ctx.Done():
		// An answer that comes later is dropped with its descriptors; a program
		// that was started nevertheless is killed.
		b.abandon(r.ID, answer, p)
		return reply{}, context.Cause(ctx)
	}
}

// Refusal is what the first process of a Box answered to a request it could not
// fulfil. It unwraps to the system's error number when there is one.
type Refusal struct {
	Message string
	Errno   syscall.Errno
}

// Error is the answer.
func (r *Refusal) Error() string { return r.Message }

// Unwrap returns the error number, or nil.
func (r *Refusal) Unwrap() error {
	if r.Errno == 0 {
		return nil
	}
	return r.Errno
}

func (b *Box) write(r request, files []*os.File) error {
	m, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(m) > maxMessage {
		note, file, err := filed(r, m)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		m, files = note, append(slices.Clone(files), file)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			// Not f.Fd(), which would make the caller's file blocking. The caller
			// keeps it open until Spawn returns.
			if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return err
			}
		}
		rights = unix.UnixRights(fds...)
	}
	b.send.Lock()
	defer b.send.Unlock()
	if _, _, err := b.conn.WriteMsgUnix(m, rights, nil); err != nil {
		return fmt.Errorf("ask the sandbox's first process: %w", err)
	}
	return nil
}

func (b *Box) forget(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, id)
	delete(b.processes, id)
}

func (b *Box) abandon(id uint64, answer chan reply, p *Process) {
	go func() {
		defer b.forget(id)
		select {
		case got := <-answer:
			closeAll(got.files)
			if p != nil && got.event.Error == "" {
				ctx, cancel := budget.Context(context.Background(), budget.Operation, "kill an abandoned program")
				defer cancel()
				_ = p.Signal(ctx, unix.SIGKILL) // only fails when it has ended
			}
		case <-b.broken:
		}
	}()
}

// receive dispatches what the first process says until its socket closes.
func (b *Box) receive() {
	defer b.lose()
	buffer, control := make([]byte, maxMessage), make([]byte, 256)
	for {
		n, cn, _, _, err := b.conn.ReadMsgUnix(buffer, control)
		if err != nil || n == 0 {
			return
		}
		files := descriptors(control[:cn])
		e, err := decodeEvent(buffer[:n])
		if err != nil {
			closeAll(files)
			return // a first process that speaks nonsense is not to be trusted
		}
		b.mu.Lock()
		answer, process := b.pending[e.ID], b.processes[e.ID]
		if e.Exit {
			delete(b.processes, e.ID)
		} else {
			delete(b.pending, e.ID)
		}
		b.mu.Unlock()
		switch {
		case e.Exit:
			closeAll(files)
			if process != nil {
				process.status = ExitStatus{Code: e.Code, Signal: e.Sig, At: time.Now()}
				close(process.ended)
			}
		case answer != nil:
			answer <- reply{e, files}
		default:
			closeAll(files)
		}
	}
}

// lose ends everything that waits for the first process.
func (b *Box) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
	close(b.broken)
	for id, p := range b.processes {
		p.err = ErrGone
		close(p.ended)
		delete(b.processes, id)
	}
}

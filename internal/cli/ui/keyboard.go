package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// keyboard reads a terminal while a prompt asks, and at no other time. It takes one
// byte at a time: what the prompt does not need stays in the kernel's queue, where the
// next prompt, a child or the shell finds it. Nothing reads on after the prompt.
type keyboard struct {
	file   *os.File
	before *term.State // nil unless the terminal is in raw mode

	ctx  context.Context // of the prompt
	over *os.File        // readable once ctx ended
	stop func()
}

// errNotFile is for streams that only claim to be a terminal.
var errNotFile = errors.New("standard input is no terminal")

// openKeyboard reads in until ctx ends. In raw mode keys come as they are pressed and
// are not shown; otherwise the terminal gives lines that it let the user edit.
func openKeyboard(ctx context.Context, in io.Reader, raw bool) (*keyboard, error) {
	file, ok := in.(*os.File)
	if !ok {
		return nil, errNotFile
	}
	over, ending, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k := &keyboard{file: file, ctx: ctx, over: over}
	forget := context.AfterFunc(ctx, func() { _ = ending.Close() })
	k.stop = func() {
		if forget() {
			_ = ending.Close()
		}
		_ = over.Close()
	}
	if raw {
		if k.before, err = term.MakeRaw(int(file.Fd())); err != nil {
			k.stop()
			return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
		}
	}
	return k, nil
}

// close gives the terminal back as it was.
func (k *keyboard) close() error {
	k.stop()
	if k.before == nil {
		return nil
	}
	if err := term.Restore(int(k.file.Fd()), k.before); err != nil {
		return fmt.Errorf("give the terminal back: %w", err)
	}
	return nil
}

// forever is how long a byte may take that a person has yet to type.
const forever time.Duration = -1

// errLate: no byte came within the time.
var errLate = errors.New("no key was pressed in time")

// readByte waits for the next byte, for at most that time. The error is errLate, the
// cause of the context's end, io.EOF, or that of the terminal.
func (k *keyboard) readByte(within time.Duration) (byte, error) {
	if err := k.wait(within); err != nil {
		return 0, err
	}
	var b [1]byte
	if n, err := k.file.Read(b[:]); err != nil {
		return 0, err
	} else if n == 0 {
		return 0, io.EOF
	}
	return b[0], nil
}

// wait returns when the terminal has something to read. It is select(2) because poll(2)
// does not work with terminals on macOS.
func (k *keyboard) wait(within time.Duration) error {
	keys, over := int(k.file.Fd()), int(k.over.Fd())
	if max(keys, over) >= unix.FD_SETSIZE {
		return errors.New("too many files are open")
	}
	deadline := time.Now().Add(within)
	for k.ctx.Err() == nil {
		var set unix.FdSet
		set.Set(keys)
		set.Set(over)
		var timeout *unix.Timeval
		if within != forever {
			left := unix.NsecToTimeval(max(0, time.Until(deadline)).Nanoseconds())
			timeout = &left
		}
		n, err := unix.Select(max(keys, over)+1, &set, nil, nil, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for a key: %w", err)
		case n == 0:
			return errLate
		case set.IsSet(keys) && !set.IsSet(over):
			return nil
		}
	}
	return context.Cause(k.ctx)
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/gateway"
)

// inputChunk is how much of standard input one message carries.
const inputChunk = 32 << 10

// Exec implements gateway.Client. Standard input is streamed; a reader that never
// returns does not keep Exec from returning, but its goroutine lives until it does.
func (c *client) Exec(ctx context.Context, e gateway.Exec) (int, error) {
	const operation = "run command"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.openshell.ExecSandboxInteractive(ctx)
	if err != nil {
		return 0, c.problem(ctx, operation, err)
	}
	in := input{stream: stream}
	in.send(&openshellv1.ExecSandboxInput{Payload: &openshellv1.ExecSandboxInput_Start{Start: &openshellv1.ExecSandboxRequest{
		SandboxId: e.SandboxID, Command: e.Command, Workdir: e.Workdir, Environment: e.Env,
		TimeoutSeconds: uint32((e.Timeout + time.Second - 1) / time.Second), Tty: e.TTY, Cols: uint32(e.Cols), Rows: uint32(e.Rows)}}})
	if e.Stdin == nil {
		in.close(e.Resize == nil)
	} else {
		go in.copy(e.Stdin, e.Resize == nil)
	}
	if e.Resize != nil {
		go in.resize(ctx, e.Resize)
	}
	code, exited := 0, false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !exited {
				return 0, fmt.Errorf("%s: the gateway ended it without an exit code", operation)
			}
			return code, nil
		}
		if err != nil {
			return code, c.problem(ctx, operation, err)
		}
		switch p := m.GetPayload().(type) {
		case *openshellv1.ExecSandboxEvent_Stdout:
			err = put(e.Stdout, p.Stdout.GetData())
		case *openshellv1.ExecSandboxEvent_Stderr:
			err = put(e.Stderr, p.Stderr.GetData())
		case *openshellv1.ExecSandboxEvent_Exit:
			code, exited = int(p.Exit.GetExitCode()), true
		}
		if err != nil {
			return 0, fmt.Errorf("%s: write its output: %w", operation, err)
		}
	}
}

func put(w io.Writer, b []byte) error {
	if w == nil || len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// input serializes what is sent. Errors show at the receiving end.
type input struct {
	mu     sync.Mutex
	stream interface {
		Send(*openshellv1.ExecSandboxInput) error
		CloseSend() error
	}
	closed bool
}

func (i *input) send(m *openshellv1.ExecSandboxInput) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.closed && i.stream.Send(m) == nil
}

// close ends standard input. A terminal's sizes still have to travel, and a
// terminal's end of input is a character, so with sizes the stream stays open.
func (i *input) close(end bool) {
	if !end {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.closed = true
		_ = i.stream.CloseSend()
	}
}

func (i *input) copy(from io.Reader, end bool) {
	buffer := make([]byte, inputChunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !i.send(&openshellv1.ExecSandboxInput{Payload: &openshellv1.ExecSandboxInput_Stdin{Stdin: slices.Clone(buffer[:n])}}) {
			return
		}
		if err != nil {
			i.close(end)
			return
		}
	}
}

func (i *input) resize(ctx context.Context, sizes <-chan [2]int) {
	for {
		select {
		case size, open := <-sizes:
			if !open || !i.send(&openshellv1.ExecSandboxInput{Payload: &openshellv1.ExecSandboxInput_Resize{
				Resize: &openshellv1.ExecSandboxWindowResize{Cols: uint32(size[0]), Rows: uint32(size[1])}}}) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Logs implements gateway.Client. n 0 means all that the gateway keeps.
func (c *client) Logs(ctx context.Context, name string, n int, follow bool, line func(gateway.LogLine)) error {
	operation := "read logs of sandbox " + name
	s, err := c.get(ctx, operation, name)
	if err != nil {
		return err
	}
	if n <= 0 {
		n = 1 << 20
	}
	id := s.GetMetadata().GetId()
	if !follow {
		r, err := c.openshell.GetSandboxLogs(ctx, &openshellv1.GetSandboxLogsRequest{SandboxId: id, Lines: uint32(n)})
		if err != nil {
			return c.problem(ctx, operation, err)
		}
		for _, l := range r.GetLogs() {
			line(lineFrom(l))
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.openshell.WatchSandbox(ctx, &openshellv1.WatchSandboxRequest{Id: id, FollowLogs: true, LogTailLines: uint32(n)})
	if err != nil {
		return c.problem(ctx, operation, err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.problem(ctx, operation, err)
		}
		if l := m.GetLog(); l != nil {
			line(lineFrom(l))
		}
	}
}

func lineFrom(l *openshellv1.SandboxLogLine) gateway.LogLine {
	return gateway.LogLine{At: at(l.GetTimestampMs()), Level: strings.ToLower(l.GetLevel()), Source: l.GetSource(), Message: l.GetMessage()}
}

package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"creel/internal/budget"
)

// plain hides what a TCP connection can do beyond what a connection over streams
// can: it has no deadlines and copies nothing by itself.
type plain struct{ c *net.TCPConn }

func (p plain) Read(b []byte) (int, error)       { return p.c.Read(b) }
func (p plain) Write(b []byte) (int, error)      { return p.c.Write(b) }
func (p plain) Close() error                     { return p.c.Close() }
func (p plain) CloseWrite() error                { return p.c.CloseWrite() }
func (p plain) LocalAddr() net.Addr              { return p.c.LocalAddr() }
func (p plain) RemoteAddr() net.Addr             { return p.c.RemoteAddr() }
func (p plain) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (p plain) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (p plain) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// kinds are the two ways in which bytes are carried.
var kinds = map[string]func(*net.TCPConn) net.Conn{
	"kernel to kernel": func(c *net.TCPConn) net.Conn { return c },
	"through here":     func(c *net.TCPConn) net.Conn { return plain{c} },
}

func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = n.Close(), f.Close() })
	return n.(*net.TCPConn), f.(*net.TCPConn)
}

// joined is a client and an agent with a joined connection between them. over is
// closed when it has ended.
func joined(t *testing.T, kind func(*net.TCPConn) net.Conn) (client, agent *net.TCPConn, over chan struct{}) {
	t.Helper()
	client, outside := pair(t)
	inside, agent := pair(t)
	over = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(over)
		Join(ctx, outside, kind(inside))
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	for _, c := range []net.Conn{client, agent} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return client, agent, over
}

// Either end may say that it sends no more, and hears the other out.
func TestHalfClose(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, direction := range []string{"client", "agent"} {
				first, second, over := joined(t, kind)
				if direction == "agent" {
					first, second = second, first
				}
				if _, err := first.Write([]byte("question")); err != nil {
					t.Fatal(err)
				}
				if err := first.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if all, err := io.ReadAll(second); err != nil || string(all) != "question" {
					t.Fatalf("%s first: %q %v", direction, all, err)
				}
				var writing sync.WaitGroup
				writing.Go(func() {
					_, err := second.Write(sent)
					if err = errors.Join(err, second.CloseWrite()); err != nil {
						t.Error(err)
					}
				})
				if all, err := io.ReadAll(first); err != nil || !bytes.Equal(all, sent) {
					t.Errorf("%s first: %d of %d bytes: %v", direction, len(all), len(sent), err)
				}
				writing.Wait()
				<-over
			}
		})
	}
}

// A connection of which one half has ended is not kept for ever, but for as long as
// something comes now and then.
func TestHalfClosedAndIdle(t *testing.T) {
	t.Setenv(budget.HalfClosed.Variable(), "400ms")
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, agent, over := joined(t, kind)
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(agent); err != nil {
				t.Fatal(err)
			}
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 10 { // longer than the limit in all
				<-tick.C
				if _, err := agent.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			silent := time.Now()
			<-over
			if took := time.Since(silent); took < 300*time.Millisecond {
				t.Errorf("ended after %s", took)
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the client reads %v", err)
			}
		})
	}
}

// An open connection is kept however long it is silent.
func TestOpenAndIdle(t *testing.T) {
	t.Setenv(budget.HalfClosed.Variable(), "20ms")
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, agent, over := joined(t, kind)
			select {
			case <-over:
				t.Fatal("ended")
			case <-time.After(300 * time.Millisecond):
			}
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(agent, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A half-closed connection whose reader is slow is not idle: a large answer waits
// for it, and arrives.
func TestHalfClosedAndSlow(t *testing.T) {
	t.Setenv(budget.HalfClosed.Variable(), "500ms")
	const size = 6 << 20
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, agent, _ := joined(t, kind)
			if err := client.SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var writing sync.WaitGroup
			defer writing.Wait()
			writing.Go(func() {
				if _, err := agent.Write(make([]byte, size)); err == nil {
					_ = agent.CloseWrite()
				}
			})
			tick := time.NewTicker(30 * time.Millisecond)
			defer tick.Stop()
			got, buffer := 0, make([]byte, 128<<10)
			for {
				<-tick.C
				n, err := io.ReadFull(client, buffer)
				got += n
				if err != nil {
					break
				}
			}
			if got != size {
				t.Errorf("%d of %d bytes came", got, size)
			}
		})
	}
}

// One end that fails takes the other down.
func TestResetIsPassedOn(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			client, agent, over := joined(t, kind)
			if err := client.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
			<-over
			if _, err := agent.Read(make([]byte, 1)); err == nil {
				t.Error("the agent's end goes on")
			}
		})
	}
}

// stuffed writes until nothing more is taken for a while, and returns how much was.
func stuffed(t *testing.T, c *net.TCPConn, most int) int {
	t.Helper()
	n, b := 0, make([]byte, 256<<10)
	for n < most {
		if err := c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		k, err := c.Write(b)
		n += k
		if err != nil {
			return n
		}
	}
	return n
}

// A reader that does not read stops the writer, before much is taken and without
// memory of this process; others go on.
func TestBackPressure(t *testing.T) {
	const most = 64 << 20 // what the kernel may keep for four sockets
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			client, agent, _ := joined(t, kind)
			before := heap()
			if n := stuffed(t, client, 4*most); n >= most {
				t.Errorf("%d bytes were taken for an agent that does not read", n)
			}
			if n := stuffed(t, agent, 4*most); n >= most {
				t.Errorf("%d bytes were taken for a client that does not read", n)
			}
			if grown := int64(heap()) - int64(before); grown > 2<<20 {
				t.Errorf("%d bytes of this process are in use for them", grown)
			}
			other, otherAgent, _ := joined(t, kind)
			if _, err := other.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(otherAgent, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

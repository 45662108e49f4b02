package relay

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
)

type frames = grpc.BidiStreamingServer[openshellv1.RelayFrame, openshellv1.RelayFrame]

// Join serves a RelayStream of a supervisor that proved to speak for sandboxID:
// it hands the stream to whoever waits for its channel and returns when the
// connection is closed.
func (h *Hub) Join(stream frames, sandboxID string) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return status.Error(codes.InvalidArgument, "the first frame of a relay stream is init")
	}
	p := h.waiting(sandboxID, init.GetChannelId())
	if p == nil {
		return status.Error(codes.NotFound, errNobody.Error())
	}
	c := &Conn{stream: stream, done: make(chan struct{}), release: p.release}
	select {
	case p.joined <- c:
	case <-p.gone:
		return status.Error(codes.NotFound, errGone.Error())
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-h.closed:
		return status.Error(codes.Unavailable, "gateway is stopping")
	}
	select {
	case <-c.done:
	case <-stream.Context().Done():
	case <-p.session.ctx.Done():
	case <-h.closed:
	}
	_ = c.Close()
	if c.writing.TryLock() {
		c.writing.Unlock()
		return nil
	}
	// A write waits for a far end that does not read, and what ends this stream
	// would wait behind it: the supervisor is asked over its session to reset it.
	ctx, cancel := budget.Context(stream.Context(), budget.Probe, "close relay")
	defer cancel()
	if err := p.session.send(ctx, closeMessage(init.GetChannelId(), "closed by the gateway")); err != nil {
		return status.Error(codes.Canceled, err.Error())
	}
	return nil
}

// Conn is one connection into a sandbox. One goroutine may read and others may
// write at a time. It has no deadlines: closing it ends whatever waits.
type Conn struct {
	stream  frames
	release func() // gives the place under the limits back

	reading sync.Mutex
	rest    []byte // of the last frame
	ended   bool   // the far end sends no more

	writing sync.Mutex
	shut    bool // this end sends no more

	once sync.Once
	done chan struct{}
}

// Read implements net.Conn. io.EOF means that the far end sends no more; one can
// still write.
func (c *Conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for len(c.rest) == 0 {
		if c.ended || len(b) == 0 {
			return 0, eofUnless(len(b) == 0)
		}
		frame, err := c.stream.Recv()
		if err == io.EOF {
			c.ended = true
			continue
		}
		if err != nil {
			return 0, c.failure("read", err)
		}
		data, is := frame.GetPayload().(*openshellv1.RelayFrame_Data)
		if !is {
			return 0, c.failure("read", status.Error(codes.InvalidArgument, "a frame without data"))
		}
		if c.rest = data.Data; len(c.rest) == 0 {
			c.ended = true
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func eofUnless(empty bool) error {
	if empty {
		return nil
	}
	return io.EOF
}

// Write implements net.Conn. It returns when the bytes are within the far end's
// flow-control window.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.shut {
		return 0, &net.OpError{Op: "write", Net: "relay", Err: net.ErrClosed}
	}
	sent := 0
	for sent < len(b) {
		select {
		case <-c.done:
			return sent, &net.OpError{Op: "write", Net: "relay", Err: net.ErrClosed}
		default:
		}
		chunk := b[sent:min(len(b), sent+ChunkSize)]
		if err := c.stream.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{Data: chunk}}); err != nil {
			return sent, c.failure("write", err)
		}
		sent += len(chunk)
	}
	return sent, nil
}

// CloseWrite says that no more data follows; one can still read.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.shut {
		return nil
	}
	c.shut = true
	select {
	case <-c.done:
		return nil
	default:
	}
	if err := c.stream.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{}}); err != nil {
		return c.failure("close write", err)
	}
	return nil
}

// Close ends the connection in both directions.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.release()
	})
	return nil
}

func (c *Conn) failure(operation string, err error) error {
	select {
	case <-c.done:
		err = net.ErrClosed
	default:
		if c.stream.Context().Err() != nil {
			err = context.Cause(c.stream.Context())
		}
	}
	return &net.OpError{Op: operation, Net: "relay", Err: err}
}

type address string

func (address) Network() string  { return "relay" }
func (a address) String() string { return string(a) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return address("gateway") }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return address("sandbox") }

// SetDeadline implements net.Conn; there are none.
func (c *Conn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn; there are none.
func (c *Conn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn; there are none.
func (c *Conn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCandidates(t *testing.T) {
	usual := []int{18789, 18790, 18791, 18792, 18793, 18794, 18795, 18796, 18797, 18798, 18799, 0}
	for name, x := range map[string]struct {
		w    Wanted
		want []int
	}{
		"nothing asked":      {Wanted{}, usual},
		"last one first":     {Wanted{Last: 40000}, append([]int{40000}, usual...)},
		"last is usual":      {Wanted{Last: 18790}, []int{18790, 18789, 18791, 18792, 18793, 18794, 18795, 18796, 18797, 18798, 18799, 0}},
		"asked for":          {Wanted{Port: 9000, Last: 9001}, append([]int{9001, 9000}, usual...)},
		"avoided":            {Wanted{Port: 18795, Last: 18790, Avoid: []int{18789, 18790, 18795}}, []int{18790, 18791, 18792, 18793, 18794, 18796, 18797, 18798, 18799, 0}},
		"avoided, all":       {Wanted{Avoid: usual}, []int{0}},
		"avoided, wanted":    {Wanted{Port: 9000, Explicit: true, Avoid: []int{9000}}, []int{9000}},
		"insisted on":        {Wanted{Port: 9000, Last: 9001, Explicit: true}, []int{9000}},
		"insists on nothing": {Wanted{Explicit: true}, usual},
	} {
		if d := cmp.Diff(x.want, candidates(x.w)); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// echo is a server that answers with what it got, once it has got all.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, err := io.ReadAll(c)
				if err == nil {
					_, _ = c.Write(all)
				}
			}()
		}
	}()
	return l
}

func listen(t *testing.T, w Wanted, dial Dial) *Forward {
	t.Helper()
	f, err := Listen(t.Context(), w, dial, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func dialled(t *testing.T, f *Forward) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func TestCarriesBothWaysWithHalfClose(t *testing.T) {
	inside := echo(t)
	f := listen(t, Wanted{}, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", inside.Addr().String())
	})
	c := dialled(t, f)
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite() // the answer only comes after this arrived inside
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(sent), err)
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	holder := fmt.Sprintf("forward.test (pid %d)", os.Getpid())
	_, err = Listen(t.Context(), Wanted{Port: port, Explicit: true}, nil, slog.New(slog.DiscardHandler))
	var taken *Taken
	if !errors.As(err, &taken) || taken.Port != port || taken.PID != os.Getpid() || err.Error() != fmt.Sprintf("port %d is taken by %s", port, holder) {
		t.Errorf("explicit port: %v", err)
	}
	f := listen(t, Wanted{Port: port}, nil)
	if now := f.Taken(); f.Port() == port || now == nil || now.Port != port || now.Holder != holder {
		t.Errorf("port %d instead of %d: %+v", f.Port(), port, now)
	}
	first := listen(t, Wanted{}, nil)
	last := first.Port()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if again := listen(t, Wanted{Last: last}, nil); again.Port() != last || again.Taken() != nil {
		t.Errorf("port %d again is %d, %v", last, again.Port(), again.Taken())
	}
	// Who listens everywhere listens here as well.
	if _, err := Listen(t.Context(), Wanted{Bind: "0.0.0.0", Port: port, Explicit: true}, nil, slog.New(slog.DiscardHandler)); !errors.As(err, &taken) {
		t.Errorf("a wide bind beside a narrow one: %v", err)
	}
}

func TestAddressOfAnotherMachine(t *testing.T) {
	for _, bind := range []string{"192.0.2.7", "::1", "2001:db8::1"} {
		_, err := Listen(t.Context(), Wanted{Bind: bind}, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), bind) {
			t.Errorf("bound to %s: %v", bind, err)
		}
	}
}

func TestUnreachableInsideIsAReset(t *testing.T) {
	f := listen(t, Wanted{}, func(context.Context, net.Conn) (net.Conn, error) { return nil, errors.New("asleep") })
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.Port()))
	if err == nil { // else the reset came before the connection was through
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an empty answer: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	var open atomic.Int32
	inside := make(chan struct{}, MaxConnections+10)
	f := listen(t, Wanted{}, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		open.Add(1)
		inside <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	for range MaxConnections {
		dialled(t, f)
	}
	for range MaxConnections {
		<-inside
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.Port()))
	if err == nil { // else the reset came before the connection was through
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one too many: %v", err)
	}
	if now, refused := f.Connections(); int(open.Load()) != MaxConnections || now != MaxConnections || refused != 1 {
		t.Errorf("%d were served, %d are, %d refused", open.Load(), now, refused)
	}
	if err := f.Close(); err != nil { // ends those that wait
		t.Error(err)
	}
	if now, _ := f.Connections(); now != 0 {
		t.Errorf("%d are served after the end", now)
	}
}

// One address on another machine gets its share and no more; this machine's own and
// a trusted proxy's get what there is.
func TestSharedPlaces(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, x := range map[string]struct {
		wanted Wanted
		from   []string // in turn
		shared bool
	}{
		"another machine":     {Wanted{Shared: true, Trusted: trusted}, []string{"192.0.2.1"}, true},
		"an IPv6 host":        {Wanted{Shared: true}, []string{"2001:db8::1", "2001:db8::2"}, true},
		"IPv6 hosts":          {Wanted{Shared: true}, []string{"2001:db8:0:1::1", "2001:db8:0:2::1"}, false},
		"written as IPv6":     {Wanted{Shared: true}, []string{"::ffff:192.0.2.1", "192.0.2.1"}, true},
		"this machine":        {Wanted{Shared: true}, []string{"127.0.0.1"}, false},
		"a trusted proxy":     {Wanted{Shared: true, Trusted: trusted}, []string{"10.1.2.3"}, false},
		"an ordinary forward": {Wanted{}, []string{"192.0.2.1"}, false},
	} {
		p := newPlaces(x.wanted)
		share := func(text string) bool {
			of := p.sharer(&net.TCPAddr{IP: net.ParseIP(text), Port: 5})
			p.from[of]++
			return of.IsValid() && p.from[of] > 1
		}
		share(x.from[0])
		if got := share(x.from[len(x.from)-1]); got != x.shared {
			t.Errorf("%s: counts together: %v", name, got)
		}
	}

	p := newPlaces(Wanted{Shared: true})
	stranger := netip.MustParsePrefix("192.0.2.1/32")
	for n := range Share {
		if mine, _ := p.take(t.Context(), nil, stranger); mine == nil {
			t.Fatalf("number %d of its share is refused", n)
		}
	}
	if mine, ended := p.take(t.Context(), nil, stranger); mine != nil || ended != nil {
		t.Error("one more than its share")
	}
	mine, _ := p.take(t.Context(), nil, netip.MustParsePrefix("192.0.2.2/32"))
	if mine == nil {
		t.Fatal("another address is kept out")
	}
	p.give(mine)
	p.give(mine)
	if p.count() != Share || len(p.from) != 1 {
		t.Errorf("left over: %d, %v", p.count(), p.from)
	}
}

// A dashboard full of connections that say nothing lets the next one in, which may
// be its owner's.
func TestMuteConnectionsMakeRoom(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("idleness cannot be told here")
	}
	inside := echo(t)
	f := listen(t, Wanted{Shared: true}, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", inside.Addr().String())
	})
	said := dialled(t, f)
	if _, err := said.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range MaxConnections - 1 {
		dialled(t, f)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if answers(f.Port(), "owner") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody gets in")
		}
	}
	if open, refused := f.Connections(); refused == 0 || open > MaxConnections {
		t.Errorf("%d open, %d ended or refused", open, refused)
	}
	if err := said.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(said); err != nil || string(all) != "x" {
		t.Errorf("one that was used a moment ago was ended: %q, %v", all, err)
	}
}

// answers reports whether a connection comes through and carries text there and back.
func answers(port int, text string) bool {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false // reset before it was through
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		return false
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return false
	}
	all, err := io.ReadAll(c)
	return err == nil && string(all) == text
}

func TestCloseEndsConnections(t *testing.T) {
	inside := echo(t)
	f := listen(t, Wanted{}, func(ctx context.Context, _ net.Conn) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", inside.Addr().String())
	})
	c := dialled(t, f)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	port := f.Port()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		t.Error("the port is still bound")
	}
}

package preface

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/dashboard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var access = dashboard.Access{PublicURL: "https://agent.example/claw", TrustedProxies: []string{"10.0.0.0/8"}}

func tcp(t *testing.T, s string) *net.TCPAddr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// exchange sends bytes to a listener and returns the rules of the connection and
// what was read of it.
func exchange(t *testing.T, sent []byte) (dashboard.Rules, string, error) {
	t.Helper()
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(raw, 5*time.Second)
	defer l.Close()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rules := Rules(c)
	rest, err := io.ReadAll(c)
	return rules, string(rest), err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	const request = "GET / HTTP/1.1\r\n"
	for _, c := range []struct{ peer, local, host string }{
		{"10.1.2.3:5000", "192.0.2.7:18789", "192.0.2.7:18789"},
		{"[2001:db8::9]:5000", "[2001:db8::7]:18789", "[2001:db8::7]:18789"},
	} {
		var b bytes.Buffer
		if err := Write(&b, tcp(t, c.peer), tcp(t, c.local), access); err != nil {
			t.Fatal(err)
		}
		b.WriteString(request)
		rules, rest, err := exchange(t, b.Bytes())
		if err != nil || rest != request {
			t.Errorf("%s: read %q, %v", c.peer, rest, err)
		}
		q := rules.Read(dashboard.Headers{Host: c.host, ForwardedFor: []string{"198.51.100.1"}})
		if !q.HostAllowed() || rules.Prefix() != "/claw" || !q.OriginAllowed("https://agent.example") {
			t.Errorf("%s: the rules are %+v", c.peer, rules)
		}
		want := tcp(t, c.peer).IP.String()
		if strings.HasPrefix(c.peer, "10.") {
			want = "198.51.100.1" // it is a declared proxy
		}
		if q.Client.String() != want {
			t.Errorf("%s: the client is %s, want %s", c.peer, q.Client, want)
		}
	}
}

// A connection without a header is one of a plain forward: only loopback's names.
func TestWithoutHeader(t *testing.T) {
	rules, rest, err := exchange(t, []byte("GET / HTTP/1.1\r\n"))
	if err != nil || rest != "GET / HTTP/1.1\r\n" {
		t.Fatalf("read %q, %v", rest, err)
	}
	q := rules.Read(dashboard.Headers{Host: "agent.example", ForwardedHost: []string{"127.0.0.1"}})
	if q.HostAllowed() || q.Client.String() != "127.0.0.1" {
		t.Errorf("believed %+v", q)
	}
	if q := rules.Read(dashboard.Headers{Host: "localhost:1"}); !q.HostAllowed() {
		t.Error("loopback is refused")
	}
}

func TestBrokenHeaders(t *testing.T) {
	var good bytes.Buffer
	if err := Write(&good, tcp(t, "10.1.2.3:5000"), tcp(t, "192.0.2.7:18789"), access); err != nil {
		t.Fatal(err)
	}
	spoilt := slices.Clone(good.Bytes())
	copy(spoilt[bytes.IndexByte(spoilt, '{'):], "[") // the declarations are no object any more
	rules, _, err := exchange(t, spoilt)
	if q := rules.Read(dashboard.Headers{Host: "agent.example"}); err != nil || q.HostAllowed() {
		t.Errorf("spoilt declarations: %+v, %v", rules, err)
	}
	for name, sent := range map[string][]byte{
		"cut short":         good.Bytes()[:30],
		"of version 1":      []byte("PROXY TCP4 10.1.2.3 192.0.2.7 5000 18789\r\nGET / HTTP/1.1\r\n"),
		"longer than it is": append(slices.Clone(good.Bytes()[:14]), 0xff, 0xff),
	} {
		if rules, rest, err := exchange(t, sent); err == nil {
			t.Errorf("%s: read %q with %+v", name, rest, rules)
		}
	}
}

// A client that writes a header of its own writes it behind the gateway's, where it
// is nothing.
func TestSecondHeaderIsNone(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, tcp(t, "203.0.113.9:5000"), tcp(t, "192.0.2.7:18789"), dashboard.Access{}); err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := Write(&second, tcp(t, "10.1.2.3:5000"), tcp(t, "192.0.2.7:18789"), access); err != nil {
		t.Fatal(err)
	}
	rules, rest, err := exchange(t, append(b.Bytes(), second.Bytes()...))
	if err != nil || rest != second.String() {
		t.Errorf("read %q, %v", rest, err)
	}
	if q := rules.Read(dashboard.Headers{Host: "agent.example"}); q.HostAllowed() || q.Client.String() != "203.0.113.9" {
		t.Errorf("believed %+v", q)
	}
}

// Where there is nothing but another kind of connection, nothing is declared.
func TestOtherConnections(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if q := Rules(a).Read(dashboard.Headers{Host: "agent.example"}); q.HostAllowed() || q.Client.IsValid() {
		t.Errorf("a pipe declares %+v", q)
	}
	var sent bytes.Buffer
	if err := Write(&sent, a.LocalAddr(), a.RemoteAddr(), access); err != nil {
		t.Fatal(err)
	}
	if rules, _, err := exchange(t, sent.Bytes()); err != nil || !rules.Read(dashboard.Headers{Host: "agent.example"}).HostAllowed() {
		t.Errorf("a header without addresses: %+v, %v", rules, err)
	}
}

// An HTTP server on top behaves: slow headers end, and the address is the client's.
func TestUnderHTTP(t *testing.T) {
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }), ReadHeaderTimeout: time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(Listen(raw, 50*time.Millisecond)) }()
	defer func() { server.Close(); <-ended }()

	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = Write(c, tcp(t, "203.0.113.5:4444"), tcp(t, "192.0.2.7:18789"), access)
		}
		return c, err
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "203.0.113.5:4444" {
		t.Errorf("the server sees %q", body)
	}
	// Half a header, and nothing more: the server gives up.
	c, err := net.Dial("tcp4", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\r\n\r\n\x00\r\nQUIT")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("half a header is waited for: %v", err)
	}
}

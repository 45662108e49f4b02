package console

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"creel/internal/dashboard"
)

// guests fills a lobby and notes who was shown out, by number.
type guests struct {
	t   *testing.T
	l   lobby
	out []int
	in  []*stranger
}

func (g *guests) enter(peer string) *stranger {
	g.t.Helper()
	n := len(g.in)
	s := g.l.enter(g.t.Context(), netip.MustParseAddr(peer), func() { g.out = append(g.out, n) })
	if s == nil {
		g.t.Fatalf("number %d from %s was refused", n, peer)
	}
	g.in = append(g.in, s)
	return s
}

func (g *guests) left(want int) {
	g.t.Helper()
	for _, s := range g.in {
		s.leave()
		s.leave()
	}
	if g.l.total != 0 || len(g.l.of) != 0 {
		g.t.Errorf("left over: %d, %v", g.l.total, g.l.of)
	}
	if len(g.out) != want {
		g.t.Errorf("shown out: %v, want %d", g.out, want)
	}
}

// An address that has its share loses its own oldest place, and before that one
// where a wrong token was shown.
func TestLobbyOfOneAddress(t *testing.T) {
	g := &guests{t: t}
	for range maxStrangersOfPeer {
		g.enter("192.0.2.1")
	}
	g.in[3].fail()
	g.enter("192.0.2.2")
	for range 2 {
		g.enter("192.0.2.1")
	}
	if len(g.out) != 2 || g.out[0] != 3 || g.out[1] != 0 {
		t.Errorf("shown out: %v", g.out)
	}
	g.left(2)
}

// When all places are taken it is an address with most of them that loses one.
func TestLobbyOfAll(t *testing.T) {
	g := &guests{t: t}
	g.enter("198.51.100.1") // came first, and stays
	for n := range maxStrangers/maxStrangersOfPeer - 1 {
		for range maxStrangersOfPeer {
			g.enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}).String())
		}
	}
	for range maxStrangersOfPeer - 1 {
		g.enter("203.0.113.1")
	}
	g.enter("198.51.100.2")
	g.enter("198.51.100.3")
	if len(g.out) != 2 || g.out[0] == 0 || g.out[1] == 0 {
		t.Errorf("shown out: %v", g.out)
	}
	if g.l.total != maxStrangers {
		t.Errorf("%d places are taken", g.l.total)
	}
	g.left(2)
}

// Who would wait too long is refused, and who goes away while waiting takes nothing.
func TestLobbyQueueIsBounded(t *testing.T) {
	g := &guests{t: t}
	for range maxStrangersOfPeer {
		g.enter("192.0.2.1")
	}
	g.l.of[networkOf(netip.MustParseAddr("192.0.2.1"))].next = time.Now().Add(2 * longestQueue)
	if g.l.enter(t.Context(), netip.MustParseAddr("192.0.2.1"), func() {}) != nil {
		t.Error("not refused")
	}
	g.l.of[networkOf(netip.MustParseAddr("192.0.2.1"))].next = time.Now().Add(longestQueue / 2)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if g.l.enter(gone, netip.MustParseAddr("192.0.2.1"), func() {}) != nil {
		t.Error("let in although it is gone")
	}
	g.left(0)
}

// Somebody at the user's own address who opens connection after connection and never
// shows a token does not keep the user's page out.
func TestStrangersKeepNobodyOut(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	attacker := i.through("192.0.2.9:5", "192.0.2.7:18789", dashboard.Access{})
	ctx, cancel := context.WithCancel(t.Context())
	var attack sync.WaitGroup
	defer attack.Wait()
	defer cancel()
	full := make(chan struct{}, 1000)
	for range 2 * maxStrangersOfPeer {
		attack.Go(func() {
			for ctx.Err() == nil {
				conn, resp, err := websocket.Dial(ctx, "ws://"+i.addr+"/ws", &websocket.DialOptions{HTTPClient: attacker.client,
					HTTPHeader: http.Header{"Origin": {"http://" + i.addr}}})
				if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
					continue
				}
				select {
				case full <- struct{}{}:
				default:
				}
				_, _, _ = conn.Read(ctx) // until it is shown out
				_ = conn.CloseNow()
			}
		})
	}
	for range 2 * maxStrangersOfPeer {
		select {
		case <-full:
		case <-time.After(patienceOfTest):
			t.Fatal("the attack does not come about")
		}
	}
	for range 5 {
		i.through("192.0.2.9:5", "192.0.2.7:18789", dashboard.Access{}).open()
	}
}

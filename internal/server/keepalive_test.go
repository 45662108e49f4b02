package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"creel/internal/bundle"
	"creel/internal/server/servertest"
)

// pinger is an HTTP/2 client that does nothing but ping: gRPC's own clients do not
// ping more often than every 10 s.
type pinger struct {
	t      *testing.T
	framer *http2.Framer
	sent   uint64
}

func newPinger(t *testing.T, c net.Conn) *pinger {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(servertest.Wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	p := &pinger{t: t, framer: http2.NewFramer(c, c)}
	if err := p.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ping returns whether the server took the ping well; otherwise it sent the client
// away for it. It answers first and judges then, so something else is asked after.
func (p *pinger) ping() bool {
	p.t.Helper()
	p.sent++
	var data [8]byte
	binary.BigEndian.PutUint64(data[:], p.sent)
	if err := p.framer.WritePing(false, data); err != nil {
		p.t.Fatalf("ping %d: %v", p.sent, err)
	}
	if err := p.framer.WriteSettings(); err != nil {
		return false // sent away already
	}
	answered := false
	for {
		frame, err := p.framer.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.t.Fatalf("no answer to ping %d", p.sent)
		case err != nil:
			return false // the connection's end may overtake the reason
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			answered = answered || f.IsAck() && f.Data == data
		case *http2.SettingsFrame:
			if f.IsAck() {
				if answered {
					return true
				}
			} else if err := p.framer.WriteSettingsAck(); err != nil {
				p.t.Fatal(err)
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeEnhanceYourCalm || !bytes.Equal(f.DebugData(), []byte("too_many_pings")) {
				p.t.Fatalf("sent away with %s %q", f.ErrCode, f.DebugData())
			}
			return false
		}
	}
}

// Clients ping every 10 s, also while they call nothing, and must not be sent away
// for it as gRPC does by default. The third ping that comes too soon sends a client
// away: two are used up first, so that one legal ping that were counted would do.
func TestPingsAreTolerated(t *testing.T) {
	g := servertest.Start(t)
	for name, dial := range map[string]func() (net.Conn, error){
		"clients": func() (net.Conn, error) {
			config := g.Config.Material.ClientConfig(bundle.LocalName)
			config.NextProtos = []string{"h2"}
			return tls.Dial("tcp", servertest.Address(g.Ready), config)
		},
		"supervisors": func() (net.Conn, error) { return net.Dial("unix", g.Config.Gateway.Socket()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			p := newPinger(t, c)
			for range 3 { // the first cannot be too soon
				if !p.ping() {
					t.Fatal("sent away after two pings that came too soon")
				}
			}
			// Not a wait for something to happen: the pace of a client. A slow machine
			// only makes it slower.
			pace := time.NewTimer(5 * time.Second)
			defer pace.Stop()
			select {
			case <-pace.C:
			case <-t.Context().Done():
				t.Fatal(t.Context().Err())
			}
			if !p.ping() {
				t.Fatal("a ping after 5 s without a stream was held against the client")
			}
			for range 100 {
				if !p.ping() {
					return // the server does count, so it would have counted the one before
				}
			}
			t.Error("pings without a pause are tolerated: this test tests nothing")
		})
	}
}

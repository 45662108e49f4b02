// Package preface is what a gateway says to an agent in front of each connection
// to its dashboard: who connected, at which address, and what was declared about
// access. It is the PROXY protocol's header, version 2, with one field of its own,
// so that an agent learns of a changed declaration with the next connection and
// without a restart. It is only sent to agents that say they read it, and an agent
// that reads it also takes connections without one, as those of a plain forward.
//
// A browser cannot write a header: its first bytes are those of HTTP or TLS. Whoever
// else reaches the port inside a sandbox can, and gains nothing by it: the token is
// what opens the page.
package preface

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"creel/internal/dashboard"
)

// accessField is the type of the field with the declarations, from the range that
// is for applications.
const accessField = proxyproto.PP2_TYPE_MIN_CUSTOM

// Write sends the header for a connection from peer that came in at local.
func Write(w io.Writer, peer, local net.Addr, access dashboard.Access) error {
	header := proxyproto.HeaderProxyFromAddrs(2, peer, local)
	text, err := json.Marshal(access)
	if err != nil {
		return fmt.Errorf("encode access: %w", err)
	}
	if err := header.SetTLVs([]proxyproto.TLV{{Type: accessField, Value: text}}); err != nil {
		return fmt.Errorf("encode access: %w", err)
	}
	// In one piece: what reads it may have only so much patience.
	b, err := header.Format()
	if err != nil {
		return fmt.Errorf("encode preface: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send preface: %w", err)
	}
	return nil
}

// Listen wraps a listener whose connections may begin with a header, which is
// waited for no longer than patience. Where one does, the connection's addresses
// are those that it names.
func Listen(l net.Listener, patience time.Duration) net.Listener {
	return &proxyproto.Listener{Listener: l, ReadHeaderTimeout: patience, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		return proxyproto.USE, nil
	}, ValidateHeader: func(h *proxyproto.Header) error {
		if h.Version != 2 {
			return fmt.Errorf("a header of version %d is not understood", h.Version)
		}
		return nil
	}}
}

type rulesKey struct{}

// Keep is a ConnContext of an http.Server whose handlers ask Of. What a connection
// begins with is read when somebody asks: the accept loop waits for nobody.
func Keep(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, rulesKey{}, sync.OnceValue(func() dashboard.Rules { return Rules(c) }))
}

// Of returns the rules for the connection that a request came by.
func Of(ctx context.Context) dashboard.Rules {
	if rules, ok := ctx.Value(rulesKey{}).(func() dashboard.Rules); ok {
		return rules()
	}
	return dashboard.Rules{}
}

// Rules are those for a connection of Listen's. It waits for the header.
func Rules(c net.Conn) dashboard.Rules {
	var access dashboard.Access
	if conn, ok := c.(*proxyproto.Conn); ok {
		access = declared(conn.ProxyHeader())
	}
	return access.Rules(addressOf(c.RemoteAddr()), addressOf(c.LocalAddr()))
}

// declared is empty for a header that declares nothing, or nothing that is
// understood.
func declared(h *proxyproto.Header) (a dashboard.Access) {
	if h == nil {
		return a
	}
	fields, err := h.TLVs()
	if err != nil {
		return a
	}
	for _, f := range fields {
		if f.Type == accessField && json.Unmarshal(f.Value, &a) != nil {
			return dashboard.Access{}
		}
	}
	return a
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

//go:build linux

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"creel/internal/cli/ui"
	"creel/internal/credential"
)

// get fetches without following redirects.
func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	return response, response.Body.Close()
}

func TestOpenHandsTheTokenToTheBrowserOnly(t *testing.T) {
	defer goleak.VerifyNone(t)
	var said strings.Builder
	var given, location string
	done := make(chan struct{})
	a := &app{Deps: Deps{Streams: ui.Streams{Err: &said}, OpenBrowser: func(ctx context.Context, url string) error {
		defer close(done)
		given = url
		response, err := get(ctx, url)
		if err != nil {
			return err
		}
		location = response.Header.Get("Location")
		if response.StatusCode != http.StatusSeeOther || response.Header.Get("Cache-Control") != "no-store" {
			return fmt.Errorf("the answer is %s %v", response.Status, response.Header)
		}
		return nil
	}}}
	if err := a.openDashboard(t.Context(), "http://127.0.0.1:18789/", credential.NewSecret("canary/1")); err != nil {
		t.Fatal(err)
	}
	<-done
	if want := "http://127.0.0.1:18789/#token=canary%2F1"; location != want {
		t.Errorf("the browser is sent to %q, want %q", location, want)
	}
	if strings.Contains(given, "canary") || strings.Contains(said.String(), "canary") {
		t.Errorf("the token shows in %q or %q", given, said.String())
	}
	// The address is gone.
	if response, err := get(t.Context(), given); err == nil {
		t.Errorf("the address still answers: %s", response.Status)
	}
}

func TestOpenEndsWhenNobodyComes(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Setenv("CREEL_BUDGET_OPERATION", "50ms")
	a := &app{Deps: Deps{Streams: ui.Streams{Err: io.Discard}, OpenBrowser: func(context.Context, string) error { return nil }}}
	err := a.openDashboard(t.Context(), "http://127.0.0.1:1/", credential.NewSecret("x"))
	if err == nil || !strings.Contains(err.Error(), "operation") {
		t.Errorf("the error does not name the budget: %v", err)
	}
	a.OpenBrowser = func(context.Context, string) error { return errors.New("no display") }
	if err := a.openDashboard(t.Context(), "http://127.0.0.1:1/", credential.NewSecret("x")); err == nil || !strings.Contains(err.Error(), "no display") {
		t.Errorf("the cause is lost: %v", err)
	}
}

// A browser that is slow, or none that comes, is waited for aloud.
func TestOpenSaysWhatItWaitsFor(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Setenv("CREEL_BUDGET_OPERATION", "1500ms")
	var said strings.Builder
	a := &app{Deps: Deps{Streams: ui.Streams{Err: &said}, OpenBrowser: func(context.Context, string) error { return nil }}}
	if err := a.openDashboard(t.Context(), "http://127.0.0.1:1/", credential.NewSecret("x")); err == nil {
		t.Fatal("nobody came, and it was opened")
	}
	if !strings.Contains(said.String(), "waiting up to 1.5s for a browser to fetch the dashboard's address") {
		t.Errorf("it says %q", said.String())
	}
}

func TestRedirectOnce(t *testing.T) {
	fetched, refused := make(chan struct{}), make(chan struct{}, 1)
	mine := false
	server := httptest.NewServer(redirectOnce("/secret", "http://target/#token=t", func(net.Addr, net.Addr) bool { return mine }, fetched, refused))
	defer server.Close()
	status := func(path string) int {
		t.Helper()
		response, err := get(t.Context(), server.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	if got := status("/other"); got != http.StatusNotFound {
		t.Errorf("another path: %d", got)
	}
	if got := status("/secret"); got != http.StatusForbidden {
		t.Errorf("another user: %d", got)
	}
	<-refused
	mine = true
	if got := status("/secret"); got != http.StatusSeeOther {
		t.Errorf("this user: %d", got)
	}
	<-fetched
	if got := status("/secret"); got != http.StatusGone {
		t.Errorf("a second time: %d", got)
	}
}

func TestSocketOwner(t *testing.T) {
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0200007F:0050 01 00000000:00000000 00:00000000 00000000  1234        0 1 1
   1: 0000000000000000FFFF00000100007F:1F91 0000000000000000FFFF00000100007F:0051 01 00000000:00000000 00:00000000 00000000     7        0 1 1
   2: garbage
   3: 0100007F:1F92 0100007F:0052 06 00000000:00000000 03:00001770 00000000     0        0 0 3
   4: 0100007F:1F93 0100007F:0053 06 00000000:00000000 03:00001770 00000000     0        0 0 3
   5: 0100007F:1F93 0100007F:0053 01 00000000:00000000 00:00000000 00000000  4321        0 1 1
`
	address := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		local, remote string
		uid           int
		found         bool
	}{
		{"127.0.0.1:8080", "127.0.0.2:80", 1234, true},
		{"127.0.0.2:80", "127.0.0.1:8080", 0, false},
		{"127.0.0.1:8081", "127.0.0.1:81", 7, true},
		{"127.0.0.1:9", "127.0.0.1:9", 0, false},
		{"127.0.0.1:8082", "127.0.0.1:82", 0, false}, // one that is over says root, whoever's it was
		{"127.0.0.1:8083", "127.0.0.1:83", 4321, true},
	} {
		uid, found := socketOwner(bufio.NewScanner(strings.NewReader(table)), address(c.local), address(c.remote))
		if uid != c.uid || found != c.found {
			t.Errorf("%s to %s: uid %d, %v", c.local, c.remote, uid, found)
		}
	}
}

// The kernel's own table, over a real connection.
func TestOwnConnection(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says whose a connection is")
	}
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skipf("no /proc/net/tcp: %v", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if !ownConnection(c.LocalAddr(), c.RemoteAddr()) {
		t.Error("this process's connection is not this user's")
	}
	if ownConnection(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, l.Addr()) {
		t.Error("a connection that does not exist is this user's")
	}
}

func FuzzKernelAddress(f *testing.F) {
	f.Add("0100007F:1F90")
	f.Add("0000000000000000FFFF00000100007F:1F91")
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := kernelAddress(s)
		if err == nil && !a.IsValid() {
			t.Errorf("%q is %v", s, a)
		}
	})
}

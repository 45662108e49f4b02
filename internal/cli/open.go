package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
)

// browserShows is how long a browser may take before it is said that it is waited for.
const browserShows = time.Second

// openDashboard opens the dashboard, signed in. A URL with the token would be
// readable by everyone in the browser's arguments, so the browser is given the
// address of a page that exists for one request: it answers with a redirect to
// the URL with the token, to this user's processes only.
func (a *app) openDashboard(ctx context.Context, url string, token credential.Secret) error {
	ctx, cancel := budget.Context(ctx, budget.Operation, "wait for the browser to fetch the dashboard's address")
	defer cancel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("open the dashboard: listen for the browser: %w", err)
	}
	path := "/" + rand.Text()
	fetched, refused := make(chan struct{}), make(chan struct{}, 1)
	server := &http.Server{ReadHeaderTimeout: budget.Of(budget.Probe), Handler: redirectOnce(path,
		dashboard.AuthenticatedURL(url, token.Reveal()), ownConnection, fetched, refused)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		<-served
	}()
	opened := make(chan error, 1)
	// A browser that was started for this goes on after this command: what runs in
	// opening is only ended when the address was not fetched.
	opening, stop := context.WithCancel(context.WithoutCancel(ctx))
	success := false
	defer func() {
		if !success {
			stop()
		}
	}()
	go func() { opened <- a.OpenBrowser(opening, "http://"+listener.Addr().String()+path) }()
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	slow := time.NewTimer(browserShows)
	defer slow.Stop()
	for {
		select {
		case <-slow.C:
			p.Wait(fmt.Sprintf("waiting up to %s for a browser to fetch the dashboard's address", budget.Of(budget.Operation)))
		case <-fetched:
			success = true
			// The answer is written before the handler returns; Shutdown waits for it.
			return server.Shutdown(ctx)
		case <-refused:
			p.Line("another user's process asked for the dashboard's address and was refused")
		case err := <-opened:
			if err != nil {
				return cannotOpen(err)
			}
			opened = nil // a browser that runs already fetches later
		case <-ctx.Done():
			return cannotOpen(context.Cause(ctx))
		}
	}
}

func cannotOpen(err error) error {
	if _, explained := advisory.Of(err); explained || errors.Is(err, context.Canceled) {
		return err
	}
	return advisory.New("browser-failed", "open the dashboard in a browser", err)
}

// redirectOnce answers the first request for path with target and then closes
// fetched. Anything else is not found; a request that own does not accept is
// forbidden and reported.
func redirectOnce(path, target string, own func(client, server net.Addr) bool, fetched chan struct{}, refused chan<- struct{}) http.Handler {
	first := make(chan struct{}, 1)
	first <- struct{}{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		remote, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case r.URL.Path != path || r.Method != http.MethodGet:
			http.NotFound(w, r)
			return
		case err != nil || !own(remote, local):
			http.Error(w, "not for you", http.StatusForbidden)
			select {
			case refused <- struct{}{}:
			default:
			}
			return
		}
		select {
		case <-first:
			w.Header().Set("Location", target)
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.WriteHeader(http.StatusSeeOther)
			close(fetched)
		default:
			http.Error(w, "used already", http.StatusGone)
		}
	})
}

// ownUID is who may fetch the redirect.
func ownUID() int { return os.Getuid() }

package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/dashboard/preface"
	"creel/internal/version"
)

type server struct {
	ctx       context.Context
	set       settings
	talk      *conversation
	assets    *assets
	log       io.Writer
	wrong     limiter
	strangers lobby
}

func appVersion() string { return version.Version() }

// serve answers on the listener until ctx ends, and returns when everything it
// started has ended. It closes the listener.
func serve(ctx context.Context, s settings, listener net.Listener, out io.Writer) error {
	files, err := loadAssets()
	if err != nil {
		listener.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &server{ctx: ctx, set: s, assets: files, log: out, talk: newConversation(ctx, s, out)}
	web := &http.Server{
		Handler:           srv.routes(),
		ReadHeaderTimeout: budget.Of(budget.Probe),
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       preface.Keep,
		ErrorLog:          log.New(out, "console: ", 0),
	}
	fmt.Fprintf(out, "console: listening on %s\n", listener.Addr())
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(preface.Listen(listener, budget.Of(budget.Probe))) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		// Shutdown waits for requests, but WebSockets are no longer requests to it:
		// they end with ctx, and are waited for below.
		grace, stop := budget.Context(context.WithoutCancel(ctx), budget.Probe, "end open requests")
		if e := web.Shutdown(grace); e != nil {
			web.Close()
		}
		stop()
		err = <-ended
	}
	cancel()
	srv.talk.wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /api/info", s.info)
	mux.HandleFunc("GET /ws", s.socket)
	mux.HandleFunc("GET /assets/{hash}/{file}", s.assets.serveFile)
	mux.HandleFunc("GET /{$}", s.assets.servePage)
	return guard(evictWorkers(belowPrefix(mux)))
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]string{"status": "ok", "agent": "console", "version": appVersion()})
}

// info is the hello without the conversation, for programs.
func (s *server) info(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") != "" && !sameOrigin(r) {
		http.Error(w, "this origin is not allowed", http.StatusForbidden)
		return
	}
	given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !s.authentic(credential.NewSecret(given)) {
		if given != "" && s.failed(r, false) > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(failurePenalty.Seconds())))
			http.Error(w, "too many wrong tokens were shown", http.StatusTooManyRequests)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "the dashboard token is missing or wrong", http.StatusUnauthorized)
		return
	}
	h := s.talk.greet(nil)
	h.Type = "info"
	writeJSON(w, h)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(encode(v), '\n'))
}

// authentic compares in constant time.
func (s *server) authentic(given credential.Secret) bool {
	want, got := sha256.Sum256([]byte(s.set.token.Reveal())), sha256.Sum256([]byte(given.Reveal()))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// failed counts and logs a wrong token and returns how long its answer is to
// wait. Creel's own probe from this machine shows one on purpose.
func (s *server) failed(r *http.Request, probe bool) time.Duration {
	client := requestOf(r).Client
	wait, line := s.wrong.wrong(client, probe && client.IsLoopback(), time.Now())
	if line != "" {
		fmt.Fprintf(s.log, "console: %s\n", line)
	}
	return wait
}

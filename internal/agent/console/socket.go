package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"creel/internal/budget"
	"creel/internal/credential"
)

// pingEvery finds connections whose other end went away without a word.
const pingEvery = 20 * time.Second

// socket is the conversation's WebSocket. It is a stranger's until the first
// message has shown that it knows the token.
func (s *server) socket(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		http.Error(w, "this origin is not allowed", http.StatusForbidden)
		return
	}
	unknown, drop := context.WithCancel(s.ctx)
	defer drop()
	stranger := s.strangers.enter(r.Context(), requestOf(r).Client, drop)
	if stranger == nil {
		http.Error(w, "too many connections that have not shown a token", http.StatusServiceUnavailable)
		return
	}
	defer stranger.leave()
	// Once it is a WebSocket the server's shutdown does not know of it any more.
	s.talk.work.Add(1)
	defer s.talk.work.Done()
	// The origin was looked at above, where what is declared is known.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()

	asked, prove := challengeOf(r)
	if prove && write(unknown, conn, encode(asked.proof(s.set.token))) != nil {
		return
	}
	first, ok := s.firstMessage(unknown, conn, r, stranger, asked)
	if !ok {
		return
	}
	stranger.leave()
	if first.Probe {
		if write(ctx, conn, encode(s.talk.greet(nil))) == nil {
			conn.Close(websocket.StatusNormalClosure, "")
		}
		return
	}
	v := newViewer()
	hello := encode(s.talk.greet(v))
	defer s.talk.leave(v)
	if write(ctx, conn, hello) != nil {
		return
	}
	// CloseNow, which runs first, ends the reads and writes of both.
	var both sync.WaitGroup
	defer both.Wait()
	defer conn.CloseNow()
	defer cancel()
	both.Go(func() { s.send(ctx, conn, v) })
	both.Go(func() { ping(ctx, conn) })
	s.receive(ctx, conn, v)
}

// firstMessage waits for the right token, or the proof that was asked for, for as
// long as the stranger has its place.
func (s *server) firstMessage(ctx context.Context, conn *websocket.Conn, from *http.Request, who *stranger, asked challenge) (request, bool) {
	waiting, cancel := budget.Context(ctx, budget.Probe, "wait for the token")
	defer cancel()
	// Read would tear the connection down when its context ends; the page shall
	// be told why instead, so a watcher closes it.
	late := context.AfterFunc(waiting, func() {
		if ctx.Err() == nil {
			conn.Close(closeNoToken, "the token was expected as the first message")
		}
	})
	defer late()
	kind, data, err := conn.Read(ctx)
	if err != nil {
		return request{}, false
	}
	late()
	r, err := parseRequest(data)
	if err != nil || kind != websocket.MessageText || r.Type != "auth" {
		conn.Close(closeBadMessage, "the token was expected as the first message")
		return request{}, false
	}
	if !s.authentic(credential.NewSecret(r.Token)) && !asked.proven(r.MAC, s.set.token) {
		// It keeps its place meanwhile, which is what bounds the guesses.
		who.fail()
		await(ctx, s.failed(from, r.Probe))
		conn.Close(closeBadToken, "the token is wrong")
		return request{}, false
	}
	return r, true
}

func (s *server) receive(ctx context.Context, conn *websocket.Conn, v *viewer) {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		r, err := parseRequest(data)
		if err == nil && kind != websocket.MessageText {
			err = &fault{"bad_message", "messages are text"}
		}
		if err != nil {
			v.put(event{Type: "error", ID: idOrNone(r.ID), Code: "bad_message", Detail: err.Error()})
			continue
		}
		switch r.Type {
		case "chat":
			if problem := s.talk.ask(r); problem != nil {
				v.put(event{Type: "error", ID: r.ID, Code: problem.Code, Detail: problem.Message})
			}
		case "stop":
			s.talk.stop(r.ID)
		case "clear":
			s.talk.clear()
		}
	}
}

func idOrNone(id string) string {
	if checkID(id) != nil {
		return ""
	}
	return id
}

func (s *server) send(ctx context.Context, conn *websocket.Conn, v *viewer) {
	for {
		select {
		case <-v.wake:
		case <-ctx.Done():
			return
		}
		events, lost := v.take()
		for _, e := range events {
			if write(ctx, conn, encode(e)) != nil {
				conn.CloseNow()
				return
			}
		}
		if lost {
			conn.Close(websocket.StatusTryAgainLater, "too slow")
			return
		}
	}
}

func write(ctx context.Context, conn *websocket.Conn, data []byte) error {
	ctx, cancel := budget.Context(ctx, budget.Operation, "write to the page")
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, data)
}

func ping(ctx context.Context, conn *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			waiting, cancel := budget.Context(ctx, budget.Operation, "wait for the page's pong")
			err := conn.Ping(waiting)
			cancel()
			if err != nil {
				conn.CloseNow()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

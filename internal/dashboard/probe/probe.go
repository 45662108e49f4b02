package probe

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
)

// closeBadToken is the WebSocket close code by which an agent refuses a token.
const closeBadToken = 4401

// wrongOrigin is a website that does not exist (RFC 2606), as an attacker's page
// would name itself.
const wrongOrigin = "http://dashboard-probe.invalid"

// maxRead bounds what is read of any answer.
const maxRead = 1 << 20

// link is one question: its evidence, and the advisory when it fails.
type link struct {
	health.Evidence
	reason  string
	message string
	// advice: a failure is worth knowing and keeps nothing from opening.
	advice bool
}

// Probe asks the whole chain. It ends within the probe budget, or with ctx: what
// ctx broke off is Unknown, what stayed silent for the whole budget is Failed.
// Once the listener has accepted and the health endpoint has answered, the other
// questions are asked at the same time. Nothing in the report holds a token.
//
// It shows a wrong token at most once.
func Probe(ctx context.Context, target Target) Report {
	bounded, cancel := budget.Context(ctx, budget.Probe, "ask the dashboard")
	defer cancel()
	host := target.Host
	// A listener on every address is asked where it surely is, and by a name that
	// an agent takes for its own.
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	address := net.JoinHostPort(host, strconv.Itoa(target.Port))
	p := &prober{outer: ctx, target: target, base: "http://" + address, client: newClient(nil)}
	defer p.client.CloseIdleConnections()

	links := []link{p.listener(bounded, address)}
	if links[0].Verdict == health.OK {
		links = append(links, p.healthEndpoint(bounded))
	}
	switch {
	case links[len(links)-1].Verdict != health.OK:
	case target.WebSocketPath == "":
		links = append(links, p.otherName(bounded), notAsked("websocket and token", "this agent names no WebSocket of its own"))
	case target.Protocol == OpenClaw:
		links = append(links, askAll(bounded, p.openClaw())...)
	default:
		questions := []question{p.page, p.rightOrigin, p.wrongOrigin, p.otherName, p.rightToken, p.wrongToken}
		if target.Access.PublicURL != "" {
			questions = slices.Insert(questions, 2, p.publicOrigin)
		}
		links = append(links, askAll(bounded, questions)...)
	}
	return conclude(links, target)
}

type question = func(context.Context) link

// askAll asks at the same time and keeps the order.
func askAll(ctx context.Context, questions []question) []link {
	answers := make([]link, len(questions))
	var all sync.WaitGroup
	for i, ask := range questions {
		all.Go(func() { answers[i] = ask(ctx) })
	}
	all.Wait()
	return answers
}

// newClient follows no redirect: where it leads is not what was asked about.
func newClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: proxy, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// notAsked is a link that there is nothing to ask about.
func notAsked(probe, why string) link {
	return link{Evidence: health.Evidence{Probe: probe, Answer: "not asked: " + why}, advice: true}
}

// conclude reduces the links: the first failure names the reason; without one,
// the first unknown does.
func conclude(links []link, target Target) Report {
	r := Report{Verdict: health.OK, Message: "the dashboard opens over HTTP"}
	if target.WebSocketPath != "" {
		r.Message = "the dashboard opens over HTTP and WebSocket, its token is accepted and a wrong one refused"
	}
	for _, l := range links {
		r.Evidence = append(r.Evidence, l.Evidence)
		switch {
		case l.advice && l.Verdict == health.Failed:
			r.Caveats = append(r.Caveats, health.Caveat{Advisory: l.reason, Message: l.message})
		case l.advice:
		case l.Verdict == health.OK, r.Verdict == health.Failed:
		case l.Verdict == health.Failed, r.Verdict == health.OK:
			r.Verdict, r.Reason, r.Message = l.Verdict, l.reason, l.message
		}
	}
	return r
}

type prober struct {
	outer  context.Context // the caller's; not bounded by the budget
	target Target
	base   string // where it is asked: scheme, host and path, without a slash at the end
	client *http.Client
}

// ask runs one question and turns what it returns into a link. An error is
// judged by why it came.
func (p *prober) ask(probe, reason string, question func() (answer string, err error)) link {
	start := time.Now()
	answer, err := question()
	l := link{Evidence: health.Evidence{Probe: probe, Answer: answer, Verdict: health.OK, Took: health.Micros(time.Since(start))}}
	if err == nil {
		return l
	}
	l.Verdict, l.reason = health.Failed, reason
	l.message = fmt.Sprintf("%s: %v", probe, err)
	var timeout net.Error
	switch {
	case p.outer.Err() != nil:
		l.Verdict, l.reason = health.Unknown, "dashboard-not-asked"
		l.message = fmt.Sprintf("%s: broken off: %v", probe, context.Cause(p.outer))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		l.reason = "dashboard-silent"
		l.message = fmt.Sprintf("%s: no answer within %s", probe, budget.Of(budget.Probe))
	}
	if l.Answer == "" {
		l.Answer = l.message[len(probe)+2:]
	}
	return l
}

func (p *prober) listener(ctx context.Context, address string) link {
	return p.ask("tcp "+address, "dashboard-not-listening", func() (string, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return "", cause(err)
		}
		conn.Close()
		return "connected", nil
	})
}

// get asks under the name in host; empty is the base's own.
func (p *prober) get(ctx context.Context, path, host string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Host = host
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, cause(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	return resp, body, err
}

// healthEndpoint: an agent with a WebSocket has a health endpoint that says 200,
// or 401 when it wants a token first; of any other program it is enough that it
// answers without a fault of its own.
func (p *prober) healthEndpoint(ctx context.Context) link {
	path := p.target.HealthPath
	if path == "" {
		path = "/"
	}
	return p.ask("http GET "+path, "dashboard-unhealthy", func() (string, error) {
		resp, _, err := p.get(ctx, path, "")
		if err != nil {
			return "", err
		}
		status := resp.StatusCode
		good := status == http.StatusOK || status == http.StatusUnauthorized
		if p.target.WebSocketPath == "" {
			good = status < 500
		}
		if !good {
			return "status " + strconv.Itoa(status), fmt.Errorf("it answered with status %d", status)
		}
		return "status " + strconv.Itoa(status), nil
	})
}

func (p *prober) page(ctx context.Context) link {
	return p.ask("http GET /", "dashboard-page", func() (string, error) {
		resp, body, err := p.get(ctx, "/", "")
		if err != nil {
			return "", err
		}
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		answer := fmt.Sprintf("status %d, %s, %d bytes", resp.StatusCode, kind, len(body))
		if resp.StatusCode != http.StatusOK || kind != "text/html" || len(body) == 0 {
			return answer, fmt.Errorf("it is not a page: %s", answer)
		}
		return answer, nil
	})
}

// otherName asks for the page as another website would whose name was pointed at
// this machine.
func (p *prober) otherName(ctx context.Context) link {
	l := p.ask("http under another website's name", "dashboard-unguarded", func() (string, error) {
		resp, _, err := p.get(ctx, "/", strings.TrimPrefix(wrongOrigin, "http://"))
		if err != nil {
			return "", err
		}
		if resp.StatusCode < 400 {
			return "status " + strconv.Itoa(resp.StatusCode), errors.New("it was served")
		}
		return "status " + strconv.Itoa(resp.StatusCode), nil
	})
	l.advice = true
	if l.Verdict == health.Failed && l.reason == "dashboard-unguarded" {
		l.message = "its agent does not look at the name it is asked under: a website that is open in a browser which reaches the port can read it"
		if p.target.WebSocketPath == "" {
			l.message += ", and no token of Creel's protects it"
		}
	}
	return l
}

// dial opens the WebSocket below a path as a page of origin would, under the name
// in host. The response is there even when the handshake was refused.
func (p *prober) dial(ctx context.Context, below, host, origin string) (*websocket.Conn, int, error) {
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(p.base, "http")+below+p.target.WebSocketPath, &websocket.DialOptions{
		HTTPClient: p.client, Host: host, HTTPHeader: header,
	})
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	return conn, status, err
}

// origin is the base's own, as the page there would send it.
func (p *prober) origin() string { return dashboard.Origin(p.base) }

func (p *prober) rightOrigin(ctx context.Context) link {
	return p.opens(ctx, "websocket with its own origin", "", "", p.origin())
}

// publicOrigin opens it as the page at the public URL would, through a proxy that
// passes on what it was asked.
func (p *prober) publicOrigin(ctx context.Context) link {
	own := dashboard.Origin(p.target.Access.PublicURL)
	_, host, _ := strings.Cut(own, "//")
	return p.opens(ctx, "websocket with the public URL's origin", p.target.Access.Prefix(), host, own)
}

func (p *prober) opens(ctx context.Context, probe, below, host, origin string) link {
	return p.ask(probe, "dashboard-websocket", func() (string, error) {
		conn, status, err := p.dial(ctx, (&url.URL{Path: below}).EscapedPath(), host, origin)
		if err != nil {
			return refused(status), handshake(status, err)
		}
		conn.CloseNow()
		return "opened", nil
	})
}

func (p *prober) wrongOrigin(ctx context.Context) link {
	return p.ask("websocket with another origin", "dashboard-origin-open", func() (string, error) {
		conn, status, err := p.dial(ctx, "", "", wrongOrigin)
		switch {
		case err == nil:
			conn.CloseNow()
			return "opened", errors.New("it was accepted")
		case status == 0:
			// No answer is no refusal: nothing is known about origins.
			return "", cause(err)
		case status >= 500:
			return refused(status), fmt.Errorf("it answered with status %d, which refuses nothing", status)
		}
		return refused(status), nil
	})
}

// show opens the WebSocket and shows a token; it returns the first message.
func (p *prober) show(ctx context.Context, token credential.Secret) ([]byte, error) {
	conn, status, err := p.dial(ctx, "", "", p.origin())
	if err != nil {
		return nil, handshake(status, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxRead)
	// The conversation is left out: it is none of the probe's business.
	first, err := json.Marshal(map[string]any{"type": "auth", "token": token.Reveal(), "probe": true})
	if err != nil {
		return nil, errors.New("encode the token")
	}
	if err := conn.Write(ctx, websocket.MessageText, first); err != nil {
		return nil, cause(err)
	}
	_, data, err := conn.Read(ctx)
	return data, err
}

func (p *prober) rightToken(ctx context.Context) link {
	const probe = "websocket with the token"
	if p.target.Token.Empty() {
		return tokenUnknown(probe)
	}
	return p.ask(probe, "dashboard-token-refused", func() (string, error) {
		data, err := p.show(ctx, p.target.Token)
		if websocket.CloseStatus(err) == closeBadToken {
			return "refused", errors.New("it was refused")
		}
		if err != nil {
			return "", cause(err)
		}
		if !isHello(data) {
			return "something else than a hello", errors.New("it answered with something else than a hello")
		}
		return "hello", nil
	})
}

func tokenUnknown(probe string) link {
	return link{
		Evidence: health.Evidence{Probe: probe, Answer: "not asked: the token is not known", Verdict: health.Unknown},
		reason:   "dashboard-token-unknown", message: "the dashboard's token is not known here",
	}
}

func (p *prober) wrongToken(ctx context.Context) link {
	return p.ask("websocket with a wrong token", "dashboard-token-open", func() (string, error) {
		_, err := p.show(ctx, credential.NewSecret("probe-"+rand.Text()))
		code := websocket.CloseStatus(err)
		switch {
		case err == nil:
			return "accepted", errors.New("it was accepted")
		case code == closeBadToken:
			return "refused", nil
		case code >= 0:
			return "", fmt.Errorf("it was closed with %d instead of refused with %d", code, closeBadToken)
		}
		return "", cause(err)
	})
}

func isHello(data []byte) bool {
	var first struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(data, &first) == nil && first.Type == "hello"
}

func refused(status int) string {
	if status == 0 {
		return ""
	}
	return "status " + strconv.Itoa(status)
}

func handshake(status int, err error) error {
	if status == 0 {
		return cause(err)
	}
	return fmt.Errorf("the handshake was answered with status %d", status)
}

// cause shortens an error of the network to what it is about; the address is in
// the probe's name already.
func cause(err error) error {
	var op *net.OpError
	var asked *url.Error
	switch {
	case errors.As(err, &op) && !op.Timeout():
		return op.Err
	case errors.As(err, &asked) && !asked.Timeout():
		return asked.Err
	}
	return err
}

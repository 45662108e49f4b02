package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/coder/websocket"

	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
)

// OpenClaw's WebSocket opens for everybody and judges what the first request, a
// "connect", says of itself: origin first, then token. These are the codes by
// which it refuses one. Those about tokens differ from version to version, so that
// any other refusal counts as one of those.
const (
	originNotAllowed = "CONTROL_UI_ORIGIN_NOT_ALLOWED"
	rateLimited      = "AUTH_RATE_LIMITED"
)

// openClaw asks OpenClaw. Whoever shows it wrong tokens is slowed down, and shut
// out for minutes under the origin that he named: so it is shown no token instead
// of a wrong one.
func (p *prober) openClaw() []question {
	questions := []question{p.page, p.openClawOrigin, p.openClawWrongOrigin, p.openClawToken, p.openClawNoToken}
	if p.target.Access.PublicURL != "" {
		questions = slices.Insert(questions, 2, p.openClawPublicOrigin)
	}
	if len(p.target.Origins) > 0 {
		questions = append(questions, p.openClawOtherOrigins)
	}
	return questions
}

// verdict is how a connect ended: let in, or refused with a code and a text.
type verdict struct {
	in         bool
	code, text string
}

func (v verdict) String() string {
	switch {
	case v.in:
		return "let in"
	case v.code == "" && v.text == "":
		return "" // nothing was answered
	}
	return "refused: " + v.text
}

// connect asks to be let in as OpenClaw's own probes do, as a page of origin would,
// under the name in host.
func (p *prober) connect(ctx context.Context, host, origin string, token credential.Secret) (verdict, error) {
	conn, status, err := p.dial(ctx, "", host, origin)
	if err != nil {
		return verdict{}, handshake(status, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxRead)
	params := map[string]any{"minProtocol": 1, "maxProtocol": 99, "role": "operator", "scopes": []string{"operator.read"},
		"client": map[string]string{"id": "openclaw-probe", "mode": "probe", "version": "1", "platform": "linux"}}
	if !token.Empty() {
		params["auth"] = map[string]string{"token": token.Reveal()}
	}
	request, err := json.Marshal(map[string]any{"type": "req", "id": "probe", "method": "connect", "params": params})
	if err != nil {
		return verdict{}, errors.New("encode the request")
	}
	for range maxEvents {
		_, data, err := conn.Read(ctx)
		if status := websocket.CloseStatus(err); status >= 0 {
			var closed websocket.CloseError
			errors.As(err, &closed)
			if status == websocket.StatusPolicyViolation {
				v := refusal(originCode(closed.Reason))
				if v.code == "" {
					v.text = "closed" // why, it said in words of its own
				}
				return v, nil
			}
			return verdict{}, fmt.Errorf("it closed with %d", status)
		}
		if err != nil {
			return verdict{}, cause(err)
		}
		var m struct {
			Type, Event, ID string
			OK              bool
			Error           struct {
				Code, Message string
				Details       struct{ Code string }
			}
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return verdict{}, errors.New("it does not speak OpenClaw's protocol")
		}
		switch {
		case m.Type == "event" && m.Event == "connect.challenge":
			if err := conn.Write(ctx, websocket.MessageText, request); err != nil {
				return verdict{}, cause(err)
			}
		case m.Type == "res" && m.ID == "probe" && m.OK:
			return verdict{in: true}, nil
		case m.Type == "res" && m.ID == "probe":
			code := m.Error.Details.Code
			if code == "" {
				code = m.Error.Code
			}
			return refusal(code), nil
		case m.Type != "event":
			return verdict{}, errors.New("it does not speak OpenClaw's protocol")
		}
	}
	return verdict{}, errors.New("it answers with events only")
}

// plainCode is what a code looks like. Anything else is text of the agent's, which may
// hold whatever was put into the agent: it is not shown.
var plainCode = regexp.MustCompile(`^[A-Z_ ]{1,64}$`)

// refusal is that for a code, which is also its text.
func refusal(code string) verdict {
	switch {
	case code == "":
		return verdict{text: "no code"}
	case !plainCode.MatchString(code):
		return verdict{text: "a code of another form"}
	}
	return verdict{code: code, text: strings.ToLower(strings.ReplaceAll(code, "_", " "))}
}

// maxEvents bounds what is read before the answer.
const maxEvents = 16

// originCode is the code of a refusal that was only said in the closing frame.
func originCode(reason string) string {
	if strings.HasPrefix(reason, "origin not allowed") {
		return originNotAllowed
	}
	return ""
}

func (p *prober) openClawOrigin(ctx context.Context) link {
	return p.openClawOpens(ctx, "websocket with its own origin", "", p.origin())
}

// openClawPublicOrigin is asked as through a proxy that takes the path away.
func (p *prober) openClawPublicOrigin(ctx context.Context) link {
	own := dashboard.Origin(p.target.Access.PublicURL)
	_, host, _ := strings.Cut(own, "//")
	return p.openClawOpens(ctx, "websocket with the public URL's origin", host, own)
}

// openClawOtherOrigins is asked as the pages would at the other URLs that are printed.
// It knows those that this machine had when it was started.
func (p *prober) openClawOtherOrigins(ctx context.Context) link {
	const probe = "websocket with the other URLs' origins"
	l := p.ask(probe, "dashboard-origin-refused", func() (string, error) {
		for _, origin := range p.target.Origins {
			_, host, _ := strings.Cut(origin, "//")
			v, err := p.connect(ctx, host, origin, p.target.Token)
			switch {
			case err != nil:
				return "", err
			case v.code == originNotAllowed:
				return v.String(), fmt.Errorf("the agent refuses the page at %s until it is started again", origin)
			}
		}
		return "opened", nil
	})
	l.advice = true
	l.message = strings.TrimPrefix(l.message, probe+": ")
	return l
}

func (p *prober) openClawOpens(ctx context.Context, probe, host, origin string) link {
	return p.ask(probe, "dashboard-websocket", func() (string, error) {
		v, err := p.connect(ctx, host, origin, p.target.Token)
		switch {
		case err != nil:
			return "", err
		case v.code == originNotAllowed:
			return v.String(), errors.New("its origin was refused")
		}
		return "opened", nil
	})
}

func (p *prober) openClawWrongOrigin(ctx context.Context) link {
	const probe = "websocket with another origin"
	var v verdict
	l := p.ask(probe, "dashboard-origin-open", func() (_ string, err error) {
		if v, err = p.connect(ctx, "", wrongOrigin, p.target.Token); err == nil && v.in {
			err = errors.New("it was accepted")
		}
		return v.String(), err
	})
	if l.Verdict == health.OK && v.code != originNotAllowed {
		// It was refused for something else: nothing is known about origins.
		l.Verdict, l.reason, l.message = health.Unknown, "dashboard-not-asked", probe+": its origin was not what it was refused for"
	}
	return l
}

func (p *prober) openClawToken(ctx context.Context) link {
	const probe = "websocket with the token"
	if p.target.Token.Empty() {
		return tokenUnknown(probe)
	}
	limited := false
	l := p.ask(probe, "dashboard-token-refused", func() (string, error) {
		v, err := p.connect(ctx, "", p.origin(), p.target.Token)
		switch {
		case err != nil:
			return "", err
		case !v.in:
			limited = v.code == rateLimited
			return v.String(), errors.New("it was refused")
		}
		return "let in", nil
	})
	if limited {
		l.Verdict, l.reason, l.message = health.Unknown, "dashboard-token-limited", probe+": too many wrong tokens were shown, and it lets nobody in for some minutes"
	}
	return l
}

func (p *prober) openClawNoToken(ctx context.Context) link {
	return p.ask("websocket without a token", "dashboard-token-open", func() (string, error) {
		v, err := p.connect(ctx, "", "", credential.Secret{})
		switch {
		case err != nil:
			return "", err
		case v.in:
			return v.String(), errors.New("it was let in")
		}
		return v.String(), nil
	})
}

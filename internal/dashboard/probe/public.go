package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"creel/internal/budget"
	"creel/internal/dashboard"
	"creel/internal/health"
)

// Public asks the public URL whether what stands in front of the dashboard passes
// it on: health over HTTP, the page, the WebSocket with the right and a wrong
// origin. No token is sent that way. A URL that cannot be reached from this machine
// may well be reached from others: that is Unknown. One that answers wrongly is
// Failed.
func Public(ctx context.Context, target Target) Report {
	bounded, cancel := budget.Context(ctx, budget.Probe, "ask the public URL")
	defer cancel()
	// As recorded it is a URL. A proxy for the way out is part of this machine's own
	// situation, as it is for its browsers.
	p := &prober{outer: ctx, target: target, base: strings.TrimRight(target.Access.PublicURL, "/"), client: newClient(http.ProxyFromEnvironment)}
	defer p.client.CloseIdleConnections()
	links := []link{p.front(bounded)}
	if links[0].Verdict == health.OK && target.WebSocketPath != "" {
		links = append(links, askAll(bounded, []question{p.frontPage, p.frontSocket, p.frontWrongOrigin})...)
	}
	r := conclude(links, target)
	if r.Verdict == health.OK {
		r.Message = "the public URL opens it"
	}
	return r
}

// front asks for the health endpoint, and judges whose answer came.
func (p *prober) front(ctx context.Context) link {
	path := p.target.HealthPath
	if path == "" {
		path = "/"
	}
	unreachable := false
	l := p.ask("http GET "+dashboard.DisplayURL(p.base+path), "dashboard-proxy", func() (string, error) {
		resp, _, err := p.get(ctx, path, "")
		if err != nil {
			unreachable = true
			return "", short(err)
		}
		answer := "status " + strconv.Itoa(resp.StatusCode)
		switch status := resp.StatusCode; {
		case status == http.StatusOK || status == http.StatusUnauthorized:
			return answer, nil
		case status >= 300 && status < 400:
			// Somebody asks for a sign-in first, or has it elsewhere: who follows
			// is not this program.
			unreachable = true
			return answer, errors.New("it sends elsewhere first, so that what is behind it could not be asked")
		case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
			return answer, fmt.Errorf("the proxy answers with status %d: it does not reach the dashboard", status)
		case status == http.StatusForbidden:
			return answer, errors.New("it is refused: the dashboard is asked under a name that is not the declared one")
		case status == http.StatusNotFound:
			return answer, errors.New("it is not found: the proxy leads this path somewhere else")
		case p.target.WebSocketPath == "" && status < 500:
			return answer, nil
		default:
			return answer, fmt.Errorf("it answers with status %d", status)
		}
	})
	if unreachable && l.Verdict == health.Failed {
		l.Verdict, l.reason = health.Unknown, "dashboard-public-unreachable"
	}
	return l
}

func (p *prober) frontPage(ctx context.Context) link {
	l := p.page(ctx)
	l.Probe = "page at the public URL"
	l.reason = blame(l, "dashboard-proxy")
	return l
}

func (p *prober) frontSocket(ctx context.Context) link {
	l := p.opens(ctx, "websocket at the public URL", "", "", p.origin())
	l.reason = blame(l, "dashboard-proxy-websocket")
	return l
}

func (p *prober) frontWrongOrigin(ctx context.Context) link {
	l := p.wrongOrigin(ctx)
	l.Probe = "websocket at the public URL with another origin"
	return l
}

// blame is the reason of a link that failed by what stands in front.
func blame(l link, reason string) string {
	if l.Verdict == health.Failed {
		return reason
	}
	return l.reason
}

// short is what a person has to know of why a URL could not be reached.
func short(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return fmt.Errorf("its certificate is not one that this machine knows: %w", certificate.Err)
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		return errors.New("its name cannot be resolved here")
	}
	return cause(err)
}

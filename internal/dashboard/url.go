package dashboard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var (
	schemePattern   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://`)
	fragmentToken   = regexp.MustCompile(`(?i)#token=.*`)
	queryToken      = regexp.MustCompile(`(?i)([?&;](?:[a-z0-9_-]*token|key|secret|password)=)[^&;#]*`)
	userInformation = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]*://|//)?[^/?#]*@`)
)

// parse reads a URL as people write it: a missing scheme is http. What comes
// back has a host, and no fragment: a fragment is where a token would be.
func parse(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if !schemePattern.MatchString(raw) {
		raw = "http://" + strings.TrimPrefix(raw, "//")
	}
	raw, _, _ = strings.Cut(raw, "#")
	u, err := url.Parse(raw)
	if err != nil {
		// The text of url.Error repeats the whole URL, with whatever it holds.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("parse URL: %s", hideQuoted(err))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("it has no host")
	case u.User != nil:
		return nil, errors.New("it must not hold a user name or password")
	}
	return u, nil
}

// hideQuoted keeps the kind of a parse error and drops the piece of input that
// it quotes.
func hideQuoted(err error) string {
	text, _, quoted := strings.Cut(err.Error(), `"`)
	if quoted {
		return strings.TrimRight(text, " :") + " (not shown)"
	}
	return text
}

// isLoopback follows the contract: localhost, 127.0.0.0/8, ::1.
func isLoopback(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// LoopbackHost reports whether a Host header ("name", "name:port", "[::1]:port")
// names this machine's loopback. A page that is served under any other name may
// be another website whose name was pointed here (DNS rebinding).
func LoopbackHost(hostport string) bool {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, "80"
	}
	if _, err := parsePort(port); err != nil {
		return false
	}
	return isLoopback(host)
}

func hostPort(host string, port int) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// origin is scheme, host and port as a browser writes them in the Origin header:
// lower case, without a port that is the scheme's default.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	host := strings.ToLower(u.Host)
	if p := u.Port(); p == "80" && u.Scheme == "http" || p == "443" && u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":"+p)
	}
	return u.Scheme + "://" + strings.TrimSuffix(host, ":")
}

// AuthenticatedURL is base with the token in its fragment, which no server and no
// referrer ever sees. A fragment that base has is replaced. An empty token gives
// base without fragment.
func AuthenticatedURL(base, token string) string {
	base, _, _ = strings.Cut(base, "#")
	if token == "" {
		return base
	}
	if u, err := url.Parse(base); err == nil && u.Host != "" && u.Path == "" && u.RawQuery == "" {
		base += "/"
	}
	// PathEscape would leave "+", which a form decoder on the other side reads as
	// a space; QueryEscape would write a space as "+".
	return base + "#token=" + strings.ReplaceAll(url.QueryEscape(token), "+", "%20")
}

// DisplayURL is the URL as it may be printed and logged: the token is cut from
// the fragment, user information and secret-looking query values are redacted.
func DisplayURL(raw string) string {
	raw = fragmentToken.ReplaceAllString(raw, "")
	raw = userInformation.ReplaceAllString(raw, "${1}REDACTED@")
	return queryToken.ReplaceAllString(raw, "${1}REDACTED")
}

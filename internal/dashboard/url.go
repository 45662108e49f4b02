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

	"golang.org/x/net/idna"
)

var (
	schemePattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://`)
	// namePattern is what a host name may be: it is put into headers.
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*)(\.[A-Za-z0-9_][A-Za-z0-9_-]*)*\.?$`)
	numberPattern = regexp.MustCompile(`(^|\.)(0[xX][0-9a-fA-F]*|[0-9]+)\.?$`)
	fragmentToken = regexp.MustCompile(`(?is)(^|[&;?])token=.*`)
	queryToken    = regexp.MustCompile(`(?i)([?&;](?:[a-z0-9_-]*token|key|secret|password)=)[^&;]*`)
)

// parse reads a URL as people write it: a missing scheme is http. What comes
// back has a host that a browser takes, and no fragment: a fragment is where a
// token would be. A name in another script is in the form that browsers send.
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
	host, err := checkHost(u.Hostname())
	if err != nil {
		return nil, err
	}
	if host != u.Hostname() {
		if port := u.Port(); port != "" {
			host += ":" + port
		}
		u.Host = host
	}
	return u, nil
}

// checkHost returns the host as it is, or as ASCII when it is a name in another
// script.
func checkHost(host string) (string, error) {
	if strings.Contains(host, ":") {
		if addr, err := netip.ParseAddr(host); err != nil || addr.Zone() != "" {
			return "", errors.New("its host is no address that a browser takes")
		}
		return host, nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", errors.New("its host is no name in any script")
		}
		host = ascii
	}
	if len(host) > 253 || !namePattern.MatchString(host) {
		return "", errors.New("its host is neither a name nor an address")
	}
	// A browser takes what ends in a number for an address, however it is written.
	if numberPattern.MatchString(host) {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", errors.New("its host looks like an address and is none; write all four numbers")
		}
	}
	return host, nil
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

func hostPort(host string, port int) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// Origin is scheme, host and port as a browser writes them in the Origin header:
// lower case, without a port that is the scheme's default. Empty when raw is no
// URL with a host.
func Origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	return originOf(u.Scheme, u.Hostname(), u.Port())
}

func originOf(scheme, host, port string) string {
	scheme = strings.ToLower(scheme)
	if n, err := strconv.Atoi(port); err == nil {
		port = strconv.Itoa(n) // without leading zeros
	}
	host = canonicalHost(host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || port == "80" && scheme == "http" || port == "443" && scheme == "https" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}

// canonicalHost is a host as browsers compare it, without brackets.
func canonicalHost(host string) string {
	host = strings.ToLower(strings.Trim(host, "[]"))
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return host
	case addr.Is4In6():
		// netip writes these with dots, browsers do not.
		b := addr.As16()
		return fmt.Sprintf("::ffff:%x:%x", uint16(b[12])<<8|uint16(b[13]), uint16(b[14])<<8|uint16(b[15]))
	}
	return addr.String()
}

// AuthenticatedURL is base with the token in its fragment, which no server and no
// referrer ever sees. A fragment that base has is replaced. An empty token gives
// base without fragment.
func AuthenticatedURL(base, token string) string {
	base, _, _ = strings.Cut(strings.TrimSpace(base), "#")
	if token == "" {
		return base
	}
	base = withPath(base)
	// PathEscape would leave "+", which a form decoder on the other side reads as
	// a space; QueryEscape would write a space as "+".
	return base + "#token=" + strings.ReplaceAll(url.QueryEscape(token), "+", "%20")
}

// DisplayURL is the URL as it may be printed and logged: the token is cut from
// the fragment, user information and secret-looking query values are redacted.
func DisplayURL(raw string) string {
	raw, fragment, has := strings.Cut(raw, "#")
	raw = queryToken.ReplaceAllString(hideUser(strings.TrimSpace(raw)), "${1}REDACTED")
	fragment = fragmentToken.ReplaceAllString(fragment, "")
	if !has || fragment == "" {
		return raw
	}
	return raw + "#" + fragment
}

// hideUser redacts what stands before an @ in the authority, whether or not the
// rest is a URL.
func hideUser(raw string) string {
	begin := 0
	if i := strings.Index(raw, "//"); i >= 0 && !strings.ContainsAny(raw[:i], "/?@") {
		begin = i + len("//")
	}
	end := len(raw)
	if i := strings.IndexAny(raw[begin:], `/?\`); i >= 0 {
		end = begin + i
	}
	at := strings.LastIndexByte(raw[begin:end], '@')
	if at < 0 {
		return raw
	}
	return raw[:begin] + "REDACTED" + raw[begin+at:]
}

package registration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/state"
)

// AuthMode is how clients of a registered gateway authenticate.
type AuthMode string

// The modes that OpenShell clients know.
const (
	MTLS      AuthMode = "mtls"
	Plaintext AuthMode = "plaintext"
	OIDC      AuthMode = "oidc"           // a bearer token
	Edge      AuthMode = "cloudflare_jwt" // a token for what is in front of the gateway
)

// Entry is what OpenShell clients keep of one gateway, whoever wrote it.
type Entry struct {
	Directory string
	Host      string
	Port      int
	TLS       bool
	Auth      AuthMode
	// Credentials has the parts that are there; with MTLS all three are.
	Credentials Credentials
	// Token is of OIDC and Edge; empty when there is none.
	Token   credential.Secret
	Expires time.Time // of the token; zero when it does not say
}

// missing says that a file of a registration is not there, without being
// fs.ErrNotExist: the registration itself is.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(name + " is missing")
	}
	return err
}

// Read reads a registration, whoever wrote it. Its absence is fs.ErrNotExist; one
// that cannot be used is the advisory registration-unusable.
func Read(g state.Gateway) (Entry, error) {
	e := Entry{Directory: g.Registration()}
	content, err := e.file(state.MetadataFile)
	if err != nil {
		return e, err
	}
	unusable := func(err error) (Entry, error) {
		return e, advisory.New("registration-unusable", "use "+filepath.Join(e.Directory, state.MetadataFile), err)
	}
	var m metadata
	if err := json.Unmarshal(content, &m); err != nil {
		return unusable(fmt.Errorf("parse: %w", err))
	}
	if e.Host, e.Port, e.TLS, err = ParseEndpoint(m.GatewayEndpoint); err != nil {
		return unusable(err)
	}
	if e.Auth = AuthMode(m.AuthMode); e.Auth == "" {
		e.Auth = MTLS
		if !e.TLS {
			e.Auth = Plaintext
		}
	}
	if err := e.readCredentials(); err != nil {
		return unusable(err)
	}
	return e, nil
}

// ParseEndpoint splits http://HOST:PORT or https://HOST:PORT.
func ParseEndpoint(endpoint string) (host string, port int, tls bool, err error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", 0, false, errors.New("the endpoint is no URL") // it may hold a password: not repeated
	}
	switch {
	case u.User != nil:
		return "", 0, false, errors.New("the endpoint holds user information")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", 0, false, errors.New("the endpoint does not begin with https:// or http://")
	case u.Hostname() == "":
		return "", 0, false, errors.New("the endpoint names no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "", 0, false, errors.New("the endpoint has more than a host and a port")
	}
	tls = u.Scheme == "https"
	text := u.Port()
	if text == "" {
		text = map[bool]string{true: "443", false: "80"}[tls]
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, false, fmt.Errorf("the endpoint's port %q does not exist", text)
	}
	return u.Hostname(), int(n), tls, nil
}

// Local reports whether a host is this machine by its name alone.
func Local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (e *Entry) file(name string) ([]byte, error) {
	content, err := readFile(filepath.Join(e.Directory, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, advisory.New("registration-unknown", "read the registration", err)
	}
	return content, err
}

func (e *Entry) readCredentials() error {
	if e.TLS {
		for name, to := range map[string]*[]byte{state.CACertFile: &e.Credentials.CA, state.TLSCertFile: &e.Credentials.Cert, state.TLSKeyFile: &e.Credentials.Key} {
			content, err := e.file(filepath.Join(state.MTLSDir, name))
			if err != nil && (!errors.Is(err, fs.ErrNotExist) || e.Auth == MTLS) {
				return missing(name, err)
			}
			*to = content
		}
	}
	switch e.Auth {
	case MTLS:
		if !e.TLS {
			return errors.New("mtls over http:// does not exist")
		}
		return nil
	case Plaintext:
		if e.TLS {
			return errors.New("auth mode plaintext with an https:// endpoint")
		}
		return nil
	case OIDC:
		return e.readOIDC()
	case Edge:
		content, err := e.file(state.EdgeTokenFile)
		if err != nil {
			return missing(state.EdgeTokenFile, err)
		}
		return e.setToken(string(content))
	}
	return fmt.Errorf("auth mode %q is not known", e.Auth)
}

func (e *Entry) readOIDC() error {
	content, err := e.file(state.OIDCTokenFile)
	if err != nil {
		return missing(state.OIDCTokenFile, err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresAt   int64  `json:"expires_at"` // seconds since 1970
	}
	if json.Unmarshal(content, &token) != nil {
		return errors.New(state.OIDCTokenFile + " does not parse") // the error would repeat the token
	}
	if token.ExpiresAt > 0 {
		e.Expires = time.Unix(token.ExpiresAt, 0)
	}
	return e.setToken(token.AccessToken)
}

// setToken refuses what cannot travel in a header. The token is not repeated.
func (e *Entry) setToken(text string) error {
	token := strings.TrimSpace(text)
	if token == "" {
		return errors.New("its token is empty")
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return errors.New("its token holds characters that no token has")
		}
	}
	e.Token = credential.NewSecret(token)
	return nil
}

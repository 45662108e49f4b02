// Package external is the runtime of a gateway that somebody else runs: an endpoint
// with a registration. It is asked and used, and never started, stopped or changed.
package external

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/registration"
	"creel/internal/state"
)

// Config is one gateway that somebody else runs.
type Config struct {
	Gateway state.Gateway
	// Endpoint is where it is wanted, as a URL. Empty is what its registration says.
	Endpoint string
}

// Runtime implements gateway.Runtime.
type Runtime struct{ cfg Config }

var _ gateway.Fixed = (*Runtime)(nil)

// New makes the runtime of one gateway. It does no I/O.
func New(cfg Config) *Runtime { return &Runtime{cfg} }

// Name is "external".
func (r *Runtime) Name() string { return "external" }

// Fixed says that nothing of it is ours to change.
func (r *Runtime) Fixed() bool { return true }

// Endpoint is where the gateway is wanted, else where it is registered.
func (r *Runtime) Endpoint() gateway.Endpoint {
	if e, err := r.entry(); err == nil {
		return endpointOf(e)
	}
	host, port, secure, err := registration.ParseEndpoint(r.cfg.Endpoint)
	if err != nil {
		return gateway.Endpoint{}
	}
	return gateway.Endpoint{Host: host, Port: port, Plaintext: !secure}
}

func endpointOf(e registration.Entry) gateway.Endpoint {
	return gateway.Endpoint{Host: e.Host, Port: e.Port, Plaintext: !e.TLS}
}

// entry is the registration. A plaintext endpoint that asks for nothing needs none.
func (r *Runtime) entry() (registration.Entry, error) {
	e, err := registration.Read(r.cfg.Gateway)
	if r.cfg.Endpoint == "" {
		if errors.Is(err, fs.ErrNotExist) {
			return e, advisory.New("registration-absent", fmt.Sprintf("gateway %s is not registered and has no endpoint", r.cfg.Gateway.Name), nil,
				"openshell gateway add --name "+r.cfg.Gateway.Name+" URL", "creel onboard --gateway-only --runtime external --gateway-endpoint URL")
		}
		return e, err
	}
	host, port, secure, parsed := registration.ParseEndpoint(r.cfg.Endpoint)
	switch {
	case parsed != nil:
		return e, advisory.New("desired-invalid", "gateway.endpoint", parsed)
	case errors.Is(err, fs.ErrNotExist) && !secure:
		return registration.Entry{Directory: e.Directory, Host: host, Port: port, Auth: registration.Plaintext}, nil
	case errors.Is(err, fs.ErrNotExist):
		return e, advisory.New("registration-absent", fmt.Sprintf("gateway %s is not registered, so nothing opens %s", r.cfg.Gateway.Name, r.cfg.Endpoint), nil,
			"openshell gateway add --name "+r.cfg.Gateway.Name+" "+r.cfg.Endpoint)
	case err != nil:
		return e, err
	case e.Host != host || e.Port != port || e.TLS != secure:
		// Credentials go to whom they are for, and to nobody else.
		return e, advisory.New("gateway-endpoint-differs",
			fmt.Sprintf("%s is wanted, and the registration of gateway %s is for %s", r.cfg.Endpoint, r.cfg.Gateway.Name, endpointOf(e).URL()), nil)
	}
	return e, nil
}

// access is how to get in with what is registered.
func access(e registration.Entry, now time.Time) (gateway.Access, error) {
	var a gateway.Access
	if e.TLS {
		a.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.Host}
		if len(e.Credentials.CA) > 0 {
			a.TLS.RootCAs = x509.NewCertPool()
			if !a.TLS.RootCAs.AppendCertsFromPEM(e.Credentials.CA) {
				return a, unusable(e, errors.New("the authority's certificate does not parse"))
			}
		}
		if len(e.Credentials.Cert) > 0 && len(e.Credentials.Key) > 0 {
			pair, err := tls.X509KeyPair(e.Credentials.Cert, e.Credentials.Key)
			if err != nil {
				return a, unusable(e, fmt.Errorf("client certificate: %w", err))
			}
			a.TLS.Certificates = []tls.Certificate{pair}
		}
	}
	if e.Token.Empty() {
		return a, nil
	}
	switch {
	case !e.TLS && !registration.Local(e.Host):
		return a, advisory.New("gateway-token-exposed", "the token of "+e.Directory+" would travel to "+e.Host+" in plaintext", nil)
	case !e.Expires.IsZero() && now.After(e.Expires):
		return a, advisory.New("gateway-token-expired", fmt.Sprintf("the token of %s expired at %s", e.Directory, e.Expires.UTC().Format(time.RFC3339)), nil)
	}
	header := func(name, prefix string) {
		a.Headers = append(a.Headers, gateway.Header{Name: name, Value: credential.NewSecret(prefix + e.Token.Reveal())})
	}
	if e.Auth == registration.Edge {
		header("cf-access-jwt-assertion", "")
		header("cookie", "CF_Authorization=")
	} else {
		header("authorization", "Bearer ")
	}
	return a, nil
}

func unusable(e registration.Entry, err error) error {
	return advisory.New("registration-unusable", "use the registration in "+e.Directory, err)
}

// Dial connects with what is registered, and refuses a version whose sandbox API
// is another.
func (r *Runtime) Dial(ctx context.Context) (gateway.Client, error) {
	e, err := r.entry()
	if err != nil {
		return nil, err
	}
	a, err := access(e, time.Now())
	if err != nil {
		return nil, err
	}
	return client.DialOpenShell(ctx, endpointOf(e), a)
}

func (r *Runtime) refuse(what string) error {
	return advisory.New("gateway-external", fmt.Sprintf("gateway %s is run by somebody else; Creel %s", r.cfg.Gateway.Name, what), nil)
}

// Start refuses: somebody else starts it.
func (r *Runtime) Start(context.Context, gateway.Progress) error {
	return r.refuse("does not start it")
}

// Stop refuses: somebody else's sandboxes may be in it.
func (r *Runtime) Stop(context.Context, gateway.Progress) error { return r.refuse("does not stop it") }

// Logs refuses: its log is where it runs.
func (r *Runtime) Logs(context.Context, io.Writer, int, bool) error {
	return r.refuse("has no log of it")
}

// Secrets is a target that holds nothing: the bootstrap secrets are its owner's.
func (r *Runtime) Secrets() bundle.Target { return bundle.Fixed{Store: nothing{r}} }

// nothing is the store of secrets that are not ours.
type nothing struct{ r *Runtime }

// Load implements bundle.Store.
func (n nothing) Load(context.Context, bundle.Requirements) (bundle.Snapshot, error) {
	return bundle.Snapshot{}, n.r.refuse("has no bootstrap secrets of it")
}

// Apply implements bundle.Store.
func (n nothing) Apply(context.Context, []bundle.Secret, bundle.Snapshot) error {
	return n.r.refuse("writes no bootstrap secrets of it")
}

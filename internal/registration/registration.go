// Package registration is the record by which OpenShell clients find a gateway:
// its endpoint and the client certificate that opens it. The place belongs to
// another program, so this package knows exactly which files there are its own
// and leaves every other alone.
package registration

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"creel/internal/bundle"
	"creel/internal/state"
)

// Endpoint is where a gateway listens.
type Endpoint struct {
	Host string // a name or address that the gateway's certificate covers; 127.0.0.1 when empty
	Port int
	// Plaintext: the gateway serves without TLS, and clients send no certificate.
	Plaintext bool
}

// URL is the endpoint as OpenShell clients write it.
func (e Endpoint) URL() string {
	host := e.Host
	if host == "" {
		host = "127.0.0.1"
	}
	scheme := "https://"
	if e.Plaintext {
		scheme = "http://"
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(e.Port))
}

// Credentials is what a client needs to open the gateway, in PEM.
type Credentials struct {
	CA   []byte
	Cert []byte
	Key  []byte
}

// CredentialsOf makes credentials of what opens a gateway.
func CredentialsOf(c bundle.ClientFiles) Credentials {
	return Credentials{CA: c.CA, Cert: c.Cert, Key: c.Key}
}

// metadata is metadata.json, with the fields that OpenShell clients read of a
// local gateway with client certificates.
type metadata struct {
	Name            string `json:"name"`
	GatewayEndpoint string `json:"gateway_endpoint"`
	IsRemote        bool   `json:"is_remote"`
	GatewayPort     int    `json:"gateway_port"`
	AuthMode        string `json:"auth_mode"`
}

// Names below the registration's directory, in the order in which they are
// written: the one that makes clients see the gateway comes last.
func names() []string {
	return []string{
		filepath.Join(state.MTLSDir, state.CACertFile),
		filepath.Join(state.MTLSDir, state.TLSKeyFile),
		filepath.Join(state.MTLSDir, state.TLSCertFile),
		state.MetadataFile,
	}
}

// contents maps each name to what it should hold.
func contents(g state.Gateway, e Endpoint, c Credentials) (map[string][]byte, error) {
	auth := MTLS
	if e.Plaintext {
		auth = Plaintext
	}
	m, err := json.MarshalIndent(metadata{Name: g.Name, GatewayEndpoint: e.URL(), GatewayPort: e.Port, AuthMode: string(auth)}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode registration: %w", err)
	}
	return map[string][]byte{
		filepath.Join(state.MTLSDir, state.CACertFile):  c.CA,
		filepath.Join(state.MTLSDir, state.TLSKeyFile):  c.Key,
		filepath.Join(state.MTLSDir, state.TLSCertFile): c.Cert,
		state.MetadataFile: append(m, '\n'),
	}, nil
}

package gateway

import (
	"crypto/tls"

	"creel/internal/credential"
)

// Access is how a caller gets into a gateway.
type Access struct {
	// TLS pins the CA and carries the client certificate, where there is one; nil is
	// plaintext.
	TLS *tls.Config
	// Headers are sent with every call: name in lower case, e.g. "authorization".
	Headers []Header
}

// Header is one header of a call. It is worth as much as a password.
type Header struct {
	Name  string
	Value credential.Secret
}

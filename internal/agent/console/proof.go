package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"

	"creel/internal/credential"
)

// A page and its server prove to each other that they know the token, and neither
// sends it: whoever has taken the port of a server that went away learns nothing
// from a page that comes back. The page opens the WebSocket with a nonce in its
// query; the server answers with a proof, before anything else; the page's first
// message is its own proof. Each is the HMAC-SHA-256, with the token as its key, of
// who proves it, the page's origin, and the nonces of both, in lines.
//
// Browsers calculate only for pages of this machine and those behind TLS. Other
// pages, and programs, send no nonce, get no proof, and show the token itself.

// Who proves that the token is known.
const (
	byServer = "creel dashboard server"
	byPage   = "creel dashboard page"
)

// nonceForm is what a page may send: 16 to 64 bytes in base64url.
var nonceForm = regexp.MustCompile(`^[A-Za-z0-9_-]{22,86}$`)

// proof is the first message to a page that sent a nonce.
type proof struct {
	Type  string `json:"type"`
	Nonce string `json:"nonce"` // the server's
	MAC   []byte `json:"mac"`
}

// challenge is what the proofs of one connection are about.
type challenge struct{ origin, page, server string }

// challengeOf is that of a request whose origin is allowed; ok is false for one
// without a nonce, or with one of another form.
func challengeOf(r *http.Request) (c challenge, ok bool) {
	c = challenge{origin: r.Header.Get("Origin"), page: r.URL.Query().Get("nonce")}
	if !nonceForm.MatchString(c.page) {
		return challenge{}, false
	}
	var random [32]byte
	rand.Read(random[:]) // never fails
	c.server = base64.RawURLEncoding.EncodeToString(random[:])
	return c, true
}

func (c challenge) mac(by string, token credential.Secret) []byte {
	h := hmac.New(sha256.New, []byte(token.Reveal()))
	h.Write([]byte(strings.Join([]string{by, c.origin, c.page, c.server}, "\n")))
	return h.Sum(nil)
}

// proof is the server's.
func (c challenge) proof(token credential.Secret) proof {
	return proof{Type: "proof", Nonce: c.server, MAC: c.mac(byServer, token)}
}

// proven reports that a page's proof is right. Nobody proves anything where
// nothing was asked.
func (c challenge) proven(mac []byte, token credential.Secret) bool {
	return c.server != "" && hmac.Equal(mac, c.mac(byPage, token))
}

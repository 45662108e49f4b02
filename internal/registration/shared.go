package registration

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/state"
)

// A gateway that another program made is mostly registered by that program, under
// a name that both use. Such a registration is shared: who wrote it keeps the rest
// of it, and Creel sees to the client files. It is of the gateway when it leads to
// the very endpoint at which that gateway answers.

// Examine is Inspect for a gateway that another program made.
func Examine(g state.Gateway, e Endpoint, c bundle.ClientFiles) Report {
	rec, f, err := lookAt(g)
	if err != nil || f.empty || rec.ours(g.Registration(), f) {
		return Inspect(g, e, Credentials(c))
	}
	r := Report{State: OK, Directory: g.Registration(), Endpoint: endpointOf(f.files[state.MetadataFile]), Problems: []Problem{}}
	if r.Active, err = readActive(activePath(g)); err != nil {
		r.State, r.Err = Unknown, advisory.New("registration-unknown", "read the active gateway", err)
		return r
	}
	if !leadsTo(r.Endpoint, e) {
		r.State, r.Err = Foreign, foreign(g, r.Endpoint, nil)
		return r
	}
	for name, content := range clientFiles(c) {
		have, there := f.files[filepath.Join(state.MTLSDir, name)]
		switch {
		case !there:
			r.stale(Problem{filepath.Join(state.MTLSDir, name), "is missing"})
		case !bytes.Equal(have, content):
			r.stale(Problem{filepath.Join(state.MTLSDir, name), "is not the gateway's own"})
		}
	}
	return r
}

// Renew makes the registration of a gateway that another program made lead to it:
// one that is missing is written, and one that leads to the endpoint gets the
// client files, whatever it had. Any other is refused (registration-foreign). The
// caller holds the gateway's lock.
func Renew(g state.Gateway, e Endpoint, c bundle.ClientFiles) (Attachment, error) {
	r := Examine(g, e, c)
	switch {
	case r.State == OK:
		return Current, nil
	case r.Err != nil:
		return "", r.Err
	}
	rec, f, err := lookAt(g)
	if err != nil {
		return "", err
	}
	if f.empty || rec.ours(g.Registration(), f) {
		return Attached, Write(g, e, Credentials(c), false)
	}
	return Attach(g, c, func([]byte) bool { return true }, false)
}

func clientFiles(c bundle.ClientFiles) map[string][]byte {
	return map[string][]byte{state.CACertFile: c.CA, state.TLSKeyFile: c.Key, state.TLSCertFile: c.Cert}
}

// leadsTo reports that a registered endpoint is this one. All names of this machine
// are one.
func leadsTo(registered string, e Endpoint) bool {
	host, port, secure, err := ParseEndpoint(registered)
	return err == nil && port == e.Port && secure != e.Plaintext &&
		(host == e.Host || Local(host) && (e.Host == "" || Local(e.Host)))
}

// Owned reports whether a registration exists that Creel wrote.
func Owned(g state.Gateway) (bool, error) {
	rec, f, err := lookAt(g)
	if p, ok := advisory.Of(err); ok && p.ID == Foreign.Advisory() {
		return false, nil
	}
	return err == nil && rec.Version != 0 && len(f.files) > 0 && rec.ours(g.Registration(), f), err
}

// Select makes a registered gateway the one that OpenShell clients use unless told
// otherwise, when there is none, or one that is not registered any more. It returns
// the active gateway's name: another one that clients can use is somebody's choice
// and stays.
func Select(g state.Gateway) (active string, err error) {
	if active, err = readActive(activePath(g)); err != nil {
		return "", advisory.New("registration-unknown", "read the active gateway", err)
	}
	if active == g.Name || active != "" && registered(g.Roots.Gateway(active)) || !registered(g) {
		return active, nil
	}
	rec, err := readRecord(g)
	if err != nil {
		return active, err
	}
	rec.Active = true
	if rec.Directory == "" {
		rec.Directory, rec.Files = g.Registration(), map[string][]string{}
	}
	// The note comes first, as in Write.
	err = writeRecord(g, rec)
	if err == nil {
		err = state.WriteFile(activePath(g), []byte(g.Name), state.FileMode)
	}
	if err != nil {
		return active, advisory.New("registration-write", "make gateway "+g.Name+" the active one", err)
	}
	return g.Name, nil
}

// registered reports that clients may find the gateway: what cannot be read counts.
func registered(g state.Gateway) bool {
	if g.Name != filepath.Base(g.Name) {
		return false // no gateway has such a name
	}
	f, err := look(g.Registration())
	_, there := f.files[state.MetadataFile]
	return err != nil || there
}

// Opens reads the client files of a registration, whoever wrote it, when it leads
// to an endpoint. The error says why they cannot be used.
func Opens(g state.Gateway, e Endpoint) (bundle.ClientFiles, error) {
	entry, err := Read(g)
	if err != nil {
		return bundle.ClientFiles{}, err
	}
	if at := (Endpoint{Host: entry.Host, Port: entry.Port, Plaintext: !entry.TLS}); !leadsTo(at.URL(), e) {
		return bundle.ClientFiles{}, fmt.Errorf("gateway %s is registered at %s", g.Name, at.URL())
	}
	c := entry.Credentials
	if entry.Auth != MTLS || len(c.CA) == 0 || len(c.Cert) == 0 || len(c.Key) == 0 {
		return bundle.ClientFiles{}, errors.New("it holds no client certificate")
	}
	return bundle.ClientFiles(c), nil
}

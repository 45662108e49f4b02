package registration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/state"
)

// Attachment is what came of Attach.
type Attachment string

// What can come of it.
const (
	NotRegistered Attachment = "not-registered" // no client knows the gateway
	Current       Attachment = "current"        // its files are these already
	NotProven     Attachment = "not-proven"     // it may be another gateway's, and was left alone
	Attached      Attachment = "attached"
	OfThisMachine Attachment = "of-this-machine" // Creel wrote it for a gateway of this machine
)

// Attach gives the registration of a gateway that Creel does not run the client
// files that open it now: after a repair the client certificate is another one.
// Endpoint and everything else in it stay. belongs says whether the certificate
// that is registered is of that gateway; only then, or by force, are the files
// replaced, and the earlier ones are kept below backup/ of the gateway's state. A
// registration that Creel wrote for a gateway of this machine is never touched.
func Attach(g state.Gateway, c bundle.ClientFiles, belongs func(certificate []byte) bool, force bool) (Attachment, error) {
	rec, f, err := lookAt(g)
	if err != nil {
		return "", err
	}
	dir := g.Registration()
	if _, registered := f.files[state.MetadataFile]; !registered {
		return NotRegistered, nil
	}
	if rec.Version != 0 && rec.ours(dir, f) {
		if !force {
			return OfThisMachine, nil
		}
		return "", advisory.New("registration-foreign",
			fmt.Sprintf("%s is the registration of gateway %s of this machine; name the cluster's gateway with --gateway", dir, g.Name), nil)
	}
	want := map[string][]byte{state.CACertFile: c.CA, state.TLSKeyFile: c.Key, state.TLSCertFile: c.Cert}
	current, begun := true, false
	for name, content := range want {
		same := bytes.Equal(f.files[filepath.Join(state.MTLSDir, name)], content)
		current, begun = current && same, begun || same
	}
	switch {
	case current:
		return Current, nil
	// What already has one of the new files was being attached when that was
	// interrupted.
	case !force && !begun && !belongs(f.files[filepath.Join(state.MTLSDir, state.TLSCertFile)]):
		return NotProven, nil
	}
	if err := replaceFiles(g, f, want); err != nil {
		return "", advisory.New("registration-write", "attach the registration", err)
	}
	return Attached, nil
}

func replaceFiles(g state.Gateway, f found, want map[string][]byte) error {
	backup := filepath.Join(g.File(state.BackupDir), time.Now().UTC().Format("20060102T150405.000000000Z")+"-registration")
	if err := state.MkdirAll(backup); err != nil {
		return err
	}
	mtls := filepath.Join(g.Registration(), state.MTLSDir)
	if err := state.MkdirAll(mtls); err != nil {
		return err
	}
	// The certificate comes last: a client that reads in between sees a pair that
	// does not fit, and not one that opens something else.
	for _, name := range []string{state.CACertFile, state.TLSKeyFile, state.TLSCertFile} {
		if old, ok := f.files[filepath.Join(state.MTLSDir, name)]; ok {
			if err := state.CreateFile(filepath.Join(backup, name), old, state.FileMode); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := state.WriteFile(filepath.Join(mtls, name), want[name], state.FileMode); err != nil {
			return err
		}
	}
	return nil
}

package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"creel/internal/state"
)

// maxSealed bounds what is decrypted; a credential is never near it.
const maxSealed = 1 << 20

// Keyring encrypts credentials at rest to one age X25519 identity.
type Keyring struct{ identity *age.X25519Identity }

// OpenKeyring reads the identity file at path (AGE-SECRET-KEY-1… on a line of
// its own, comments with #), or makes one with mode 0600 when there is none. A
// file that holds anything else is an error and stays as it is: a new identity
// could not open what the old one sealed.
func OpenKeyring(path string) (*Keyring, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKeyring(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read credential key: %w", err)
	}
	return parseKeyring(path, content)
}

// CheckKeyring reports why OpenKeyring would refuse the file at path. It makes
// nothing.
func CheckKeyring(path string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read credential key: %w", err)
	}
	_, err = parseKeyring(path, content)
	return err
}

func createKeyring(path string) (*Keyring, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make credential key: %w", err)
	}
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make credential key: %w", err)
	}
	content := "# encrypts the credentials that this gateway stores\n" + identity.String() + "\n"
	err = state.CreateFile(path, []byte(content), state.FileMode)
	if errors.Is(err, fs.ErrExist) { // another process was first: its key is the key
		return OpenKeyring(path)
	}
	if err != nil {
		return nil, fmt.Errorf("make credential key: %w", err)
	}
	return &Keyring{identity: identity}, nil
}

// parseKeyring never quotes the content: it may be a key.
func parseKeyring(path string, content []byte) (*Keyring, error) {
	var found *age.X25519Identity
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		identity, err := age.ParseX25519Identity(line)
		if err != nil || found != nil {
			return nil, fmt.Errorf("credential key %s is not one age X25519 identity", path)
		}
		found = identity
	}
	if found == nil {
		return nil, fmt.Errorf("credential key %s is not one age X25519 identity", path)
	}
	return &Keyring{identity: found}, nil
}

// Seal encrypts a secret.
func (k *Keyring) Seal(s Secret) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, k.identity.Recipient())
	if err != nil {
		return nil, fmt.Errorf("seal credential: %w", err)
	}
	if _, err := io.WriteString(w, s.value); err != nil {
		return nil, fmt.Errorf("seal credential: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal credential: %w", err)
	}
	return sealed.Bytes(), nil
}

// Open decrypts what Seal of the same identity made.
func (k *Keyring) Open(sealed []byte) (Secret, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	if err != nil {
		return Secret{}, fmt.Errorf("open sealed credential: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxSealed))
	if err != nil {
		return Secret{}, fmt.Errorf("open sealed credential: %w", err)
	}
	return NewSecret(string(plain)), nil
}

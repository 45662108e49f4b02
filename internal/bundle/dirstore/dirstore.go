// Package dirstore keeps a gateway's bootstrap secrets as files below its state
// directory. It knows names, modes, order and durability; what the files mean is
// package bundle's. A caller that writes holds the gateway's lock.
package dirstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/internal/state"
)

// maxFile is larger than any file of a set.
const maxFile = 1 << 20

// Store is a bundle.Store over the directory layout of generation 2.
type Store struct{ gateway state.Gateway }

// New returns the store of one gateway. It touches nothing.
func New(g state.Gateway) *Store { return &Store{gateway: g} }

// Requirements is what a gateway that reads this layout needs.
func Requirements() bundle.Requirements {
	return bundle.Requirements{Generation: bundle.Generation2, Layout: bundle.Directory}
}

// Target is the store with these requirements.
func (s *Store) Target() bundle.Target { return bundle.Fixed{Store: s, Want: Requirements()} }

// file is one value of a member.
type file struct {
	key     string
	path    string
	private bool
}

// group is a member and its files, in the order in which they are written: the
// one that makes the member valid comes last.
type group struct {
	member string
	files  []file
}

// groups lists the members in the order in which they are written. The CA comes
// last: as long as its certificate is missing, whatever it issued counts as
// nothing, so an interrupted first write is mended like an absent set.
func (s *Store) groups() []group {
	tls := s.gateway.File(state.TLSDir)
	jwt := s.gateway.File(state.JWTDir)
	leaf := func(member, dir string) group {
		return group{member, []file{
			{state.TLSKeyFile, filepath.Join(tls, dir, state.TLSKeyFile), true},
			{state.TLSCertFile, filepath.Join(tls, dir, state.TLSCertFile), false},
		}}
	}
	return []group{
		leaf(bundle.Server, state.ServerDir),
		leaf(bundle.Client, state.ClientDir),
		{bundle.JWT, []file{
			{state.JWTSigningFile, filepath.Join(jwt, state.JWTSigningFile), true},
			{state.JWTPublicFile, filepath.Join(jwt, state.JWTPublicFile), false},
			{state.JWTKeyIDFile, filepath.Join(jwt, state.JWTKeyIDFile), false},
		}},
		{bundle.CA, []file{
			{state.CAKeyFile, filepath.Join(tls, state.CAKeyFile), true},
			{state.CACertFile, filepath.Join(tls, state.CACertFile), false},
		}},
	}
}

// directories are those between the gateway's directory and the files, parents
// first.
func (s *Store) directories() []string {
	tls := s.gateway.File(state.TLSDir)
	return []string{tls, filepath.Join(tls, state.ServerDir), filepath.Join(tls, state.ClientDir), s.gateway.File(state.JWTDir)}
}

// token maps each existing file to the SHA-256 of its content.
type token map[string][sha256.Size]byte

// Load reads every file that exists. Anything but a regular file in a real
// directory, and anything unreadable, is an error that names it: what it hides
// is unknown.
func (s *Store) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	if want.Generation != bundle.Generation2 || want.Layout == bundle.Kubernetes {
		return bundle.Snapshot{}, unknown(fmt.Errorf("a directory holds generation 2 in its own layout, not generation %d (%s)", want.Generation, want.Layout))
	}
	snapshot := bundle.Snapshot{Secrets: map[string]bundle.Secret{}}
	seen := token{}
	for _, dir := range s.directories() {
		if err := checkDirectory(dir); err != nil {
			return bundle.Snapshot{}, unknown(err)
		}
	}
	for _, g := range s.groups() {
		data := map[string][]byte{}
		for _, f := range g.files {
			if err := context.Cause(ctx); err != nil {
				return bundle.Snapshot{}, unknown(fmt.Errorf("read %s: %w", f.path, err))
			}
			content, mode, err := readFile(f.path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return bundle.Snapshot{}, unknown(err)
			}
			data[f.key] = content
			seen[f.path] = sha256.Sum256(content)
			if f.private && mode.Perm()&0o077 != 0 {
				snapshot.Caveats = append(snapshot.Caveats, health.Caveat{Advisory: "secrets-key-readable",
					Message: fmt.Sprintf("%s has mode %04o: others than its owner can read or change it", f.path, mode.Perm())})
			}
		}
		if len(data) > 0 {
			snapshot.Secrets[g.member] = bundle.Secret{Name: g.member, Data: data}
		}
	}
	snapshot.Token = seen
	return snapshot, nil
}

func unknown(err error) error {
	return advisory.New("secrets-unknown", "load bootstrap secrets", err)
}

// checkDirectory accepts a directory and nothing at all.
func checkDirectory(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is %s, not a directory", path, kind(info.Mode()))
	}
	return nil
}

// readFile reads a regular file without following a link and without hanging on
// a pipe.
func readFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			return nil, 0, fmt.Errorf("%s is a symbolic link, not a file", path)
		}
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is %s, not a file", path, kind(info.Mode()))
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(content) > maxFile {
		return nil, 0, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return content, info.Mode(), nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "a file"
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

// Apply writes members durably, the previous files of each first into
// backup/TIME-MEMBER. It refuses when any file of the set is not what prev saw:
// a certificate that is written may have been issued by a CA that is not.
func (s *Store) Apply(ctx context.Context, write []bundle.Secret, prev bundle.Snapshot) error {
	wanted, err := s.plan(write)
	if err != nil {
		return fmt.Errorf("apply bootstrap secrets: %w", err)
	}
	now, err := s.Load(ctx, Requirements())
	if err != nil {
		return err
	}
	planned, ok := prev.Token.(token)
	if !ok {
		return errors.New("apply bootstrap secrets: the snapshot is not one of this store")
	}
	if !maps.Equal(planned, now.Token.(token)) {
		return fmt.Errorf("apply bootstrap secrets: %w", bundle.ErrChanged)
	}
	if err := s.sweep(); err != nil {
		return err
	}
	for _, w := range wanted {
		if err := s.backUp(w, now.Secrets[w.group.member]); err != nil {
			return err
		}
	}
	for _, c := range changes(wanted) {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("write %s: %w", c.path, err)
		}
		if err := c.do(); err != nil {
			return err
		}
	}
	return s.syncParents()
}

// change is one step of a write: a file gets a content or, without one, goes.
type change struct {
	path    string
	content []byte
}

// changes puts a write into steps between which it may be interrupted. A member
// first loses the file that makes it valid, and the CA all of it before anything
// else happens: so an interrupted write is an incomplete member or an absent CA,
// never a mix of old and new, and the next repair mends it without being asked
// to replace anything.
func changes(wanted []replacement) []change {
	var steps []change
	for _, w := range wanted {
		if w.group.member == bundle.CA {
			for _, f := range slices.Backward(w.group.files) {
				steps = append(steps, change{path: f.path})
			}
		}
	}
	for _, w := range wanted {
		files := w.group.files
		steps = append(steps, change{path: files[len(files)-1].path})
		for _, f := range files {
			steps = append(steps, change{f.path, w.secret.Data[f.key]})
		}
	}
	return steps
}

func (c change) do() error {
	dir := filepath.Dir(c.path)
	if err := state.MkdirAll(dir); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	if len(c.content) > 0 {
		if err := state.WriteFile(c.path, c.content, state.FileMode); err != nil {
			return fmt.Errorf("write %s: %w", c.path, err)
		}
		return nil
	}
	err := os.Remove(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = state.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", c.path, err)
	}
	return nil
}

// replacement is a member to write.
type replacement struct {
	group  group
	secret bundle.Secret
}

// plan checks that what is to be written is exactly members of the layout, each
// whole and once, and puts them in the order of writing.
func (s *Store) plan(write []bundle.Secret) ([]replacement, error) {
	var planned []replacement
	for _, g := range s.groups() {
		for _, secret := range write {
			if secret.Name != g.member {
				continue
			}
			keys := make([]string, len(g.files))
			for i, f := range g.files {
				keys[i] = f.key
			}
			slices.Sort(keys)
			if got := slices.Sorted(maps.Keys(secret.Data)); !slices.Equal(got, keys) {
				return nil, fmt.Errorf("member %s has the keys %q, it needs %q", g.member, got, keys)
			}
			planned = append(planned, replacement{g, secret})
		}
	}
	if len(planned) != len(write) {
		return nil, errors.New("a member is unknown to the directory layout")
	}
	return planned, nil
}

// sweep removes temporary files that an interrupted write left: they hold keys.
func (s *Store) sweep() error {
	for _, g := range s.groups() {
		for _, f := range g.files {
			if err := state.Sweep(f.path); err != nil {
				return fmt.Errorf("remove temporary files: %w", err)
			}
		}
	}
	return nil
}

// syncParents makes newly made directories durable.
func (s *Store) syncParents() error {
	for _, dir := range append([]string{s.gateway.Dir()}, s.directories()...) {
		if err := state.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync directory: %w", err)
		}
	}
	return nil
}

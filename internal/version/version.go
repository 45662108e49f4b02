// Package version says which Creel this is: a version for people and a build id
// for comparing executables. It only ever reads the running executable.
package version

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// Unknown stands where neither the linker nor the version control said which
// version this is.
const Unknown = "devel"

// stamp is set by the linker: -ldflags "-X creel/internal/version.stamp=1.2.3".
var stamp string

// Version is the stamped version, else the module's version, else the revision
// it was built from, else "devel".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = nil
	}
	return describe(stamp, info)
}

func describe(stamp string, info *debug.BuildInfo) string {
	if stamp != "" {
		return stamp
	}
	if info == nil {
		return Unknown
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if revision == "" {
		return Unknown
	}
	return Unknown + "-" + revision[:min(12, len(revision))] + dirty
}

// BuildID identifies the content of the running executable: 32 hexadecimal
// digits, equal exactly when the executables are. It is computed once, and empty
// when the executable cannot be read (Identify says why).
func BuildID() string {
	id, _ := Identify()
	return id
}

// Identify is BuildID with the reason why it is not known.
var Identify = sync.OnceValues(func() (string, error) { return BuildIDOf(Executable()) })

// Executable is the path under which this process can open its own executable,
// even after the file was replaced or removed (as `go run` does when it ends).
// Where the system has no such path it is the executable's path, or "".
func Executable() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	p, err := os.Executable()
	if err != nil {
		return ""
	}
	return p
}

// BuildIDOf is the build id of the executable at path. Go's linker leaves a hash
// of the content in an ELF note; reading that costs microseconds where hashing
// the file costs tens of milliseconds. A file without the note is hashed.
func BuildIDOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read build id: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	note, err := goBuildID(f)
	if err == nil {
		_, _ = sum.Write(note)
	} else if _, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("read build id: hash %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// errNoNote is the answer for a file that is no ELF file of Go's linker.
var errNoNote = errors.New("no Go build id")

// goNoteType is the type of the linker's note; its owner is "Go\0\0" (source:
// the note section described in cmd/link).
const goNoteType = 4

// maxNotes bounds what is read of a file that claims to have huge notes.
const maxNotes = 64 << 10

func goBuildID(r io.ReaderAt) (id []byte, err error) {
	defer func() { // debug/elf does not promise to survive every file
		if p := recover(); p != nil {
			id, err = nil, errNoNote
		}
	}()
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, errNoNote
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, errNoNote
		}
		if id := findNote(notes, f.ByteOrder); len(id) > 0 {
			return id, nil
		}
	}
	return nil, errNoNote
}

// findNote walks a note segment: name size, description size, type, name and
// description, the last two padded to four bytes.
func findNote(notes []byte, order binary.ByteOrder) []byte {
	for len(notes) >= 12 {
		name, desc, kind := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:])), order.Uint32(notes[8:])
		notes = notes[12:]
		nameEnd, descEnd := (name+3)&^3, (desc+3)&^3
		if nameEnd+descEnd > uint64(len(notes)) {
			return nil
		}
		if kind == goNoteType && string(notes[:name]) == "Go\x00\x00" {
			return notes[nameEnd : nameEnd+desc]
		}
		notes = notes[nameEnd+descEnd:]
	}
	return nil
}

package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"creel/internal/advisory"
	"creel/internal/host"
)

// Check reports why the database at path could not be used by this build: what
// Open would refuse. It writes nothing; no database is none that is refused.
func Check(ctx context.Context, path string) error {
	_, err := judge(ctx, path)
	return err
}

// judge reports whether there is a database to use. It writes nothing: first the
// header is read as a file, then SQLite reads it without the right to write,
// because pages that matter may still be in the write-ahead log.
func judge(ctx context.Context, path string) (bool, error) {
	header, err := readHeader(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, errNoFile):
		return false, refuseForeign(path, err.Error())
	case err != nil:
		return false, host.Explain(fmt.Errorf("read database %s: %w", path, err), path)
	case len(header) == 0: // a crash between creation and first write left nothing to lose
		return false, nil
	}
	if !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return false, refuseForeign(path, "it is not an SQLite file")
	}
	if len(header) < headerSize {
		return false, refuseCorrupt(path, fmt.Errorf("header is cut off after %d bytes", len(header)))
	}
	version := int64(binary.BigEndian.Uint32(header[60:])) // file format, section 1.3
	application := int64(binary.BigEndian.Uint32(header[68:]))
	if err := checkMarks(path, application, version); err != nil {
		return false, err
	}
	return true, inspect(ctx, path)
}

// errNoFile is something else than a file in the database's place.
var errNoFile = errors.New("it is no file")

const headerSize = 100

func readHeader(path string) ([]byte, error) {
	// Not waiting: a pipe in its place would never be opened.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	header := make([]byte, headerSize)
	n, err := io.ReadFull(f, header)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return header[:n], err
}

func inspect(ctx context.Context, path string) error {
	options := []string{"mode=ro", "_pragma=busy_timeout(5000)"}
	if log, err := os.Stat(path + "-wal"); err != nil || log.Size() == 0 {
		options = append(options, "immutable=1") // no shared-memory file beside a database that is whole
	}
	db, err := connect(path, options...)
	if err != nil {
		return refuseCorrupt(path, err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var version, application int64
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return refuseCorrupt(path, err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application); err != nil {
		return refuseCorrupt(path, err)
	}
	if err := checkMarks(path, application, version); err != nil {
		return err
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return refuseCorrupt(path, err)
	}
	if verdict != "ok" {
		return refuseCorrupt(path, errors.New(strings.Join(strings.Fields(verdict), " ")))
	}
	var tables int
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name='objects'").Scan(&tables)
	if err != nil {
		return refuseCorrupt(path, err)
	}
	if tables != 1 {
		return refuseCorrupt(path, errors.New("table objects is missing"))
	}
	return nil
}

func checkMarks(path string, application, version int64) error {
	switch {
	case application != applicationID:
		return refuseForeign(path, "it belongs to another program")
	case version > SchemaVersion:
		return advisory.New("database-newer", fmt.Sprintf(
			"database %s has schema version %d, this creel reads up to %d", path, version, SchemaVersion), nil)
	case version < oldestVersion:
		return refuseCorrupt(path, fmt.Errorf("schema version %d was never written by any creel", version))
	}
	return nil
}

func refuseForeign(path, why string) error {
	return advisory.New("database-foreign", fmt.Sprintf("database %s is not a gateway's: %s", path, why), nil).At(path)
}

// refuseCorrupt says that a database is damaged where cause is SQLite's word that
// it is. What merely could not be read says nothing about it.
func refuseCorrupt(path string, cause error) error {
	var said *sqlite.Error
	if errors.As(cause, &said) {
		switch said.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT:
		default:
			return fmt.Errorf("read database %s: %w", path, cause)
		}
	} else if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("read database %s: %w", path, cause)
	}
	return advisory.New("database-corrupt", fmt.Sprintf("database %s is damaged (expected schema version %d)", path, SchemaVersion), cause).At(path)
}

// Package store keeps the gateway's objects in one SQLite file (WAL). It knows
// nothing of gRPC and decides nothing: what a record means is its users'.
package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo

	"creel/internal/advisory"
	"creel/internal/state"
)

// SchemaVersion is the only version this build reads and writes
// (PRAGMA user_version).
const SchemaVersion = 1

// applicationID marks a file as a gateway's (PRAGMA application_id): "Crel".
const applicationID = 0x4372656c

const schema = `
CREATE TABLE objects (
  id               TEXT PRIMARY KEY,
  object_type      TEXT NOT NULL,
  name             TEXT NOT NULL,
  workspace        TEXT NOT NULL,
  resource_version INTEGER NOT NULL,
  labels           TEXT NOT NULL,
  payload          TEXT NOT NULL,
  created_at_ms    INTEGER NOT NULL,
  updated_at_ms    INTEGER NOT NULL,
  UNIQUE (object_type, workspace, name)
) STRICT, WITHOUT ROWID;`

// Store is an open database. It is safe for concurrent use in one process; the
// daemon's lock keeps other processes out.
type Store struct {
	db    *sql.DB
	write sync.Mutex // SQLite has one writer: queue here rather than in busy retries

	Sandboxes Collection[Sandbox]
	Providers Collection[Provider]
	Routes    Collection[Route]
	Sessions  Collection[Session]
}

// Open opens the database at path, or makes one. A file that is not ours, of a
// newer schema, or damaged is refused with an *advisory.Problem
// ("database-foreign", "database-newer", "database-corrupt") and is left as it is.
func Open(ctx context.Context, path string) (*Store, error) {
	exists, err := judge(ctx, path)
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := create(ctx, path); err != nil {
			return nil, fmt.Errorf("create database: %w", err)
		}
	}
	db, err := connect(path, "_txlock=immediate", "_pragma=busy_timeout(5000)", "_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)", "_pragma=cache_size(-2048)")
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(4)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	s := &Store{db: db}
	s.Sandboxes = newCollection[Sandbox](s, "sandbox")
	s.Providers = newCollection[Provider](s, "provider")
	s.Routes = newCollection[Route](s, "inference_route")
	s.Sessions = newCollection[Session](s, "ssh_session")
	return s, nil
}

// Close writes what is pending and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// connect uses a URI so that the path may hold any character.
func connect(path string, options ...string) (*sql.DB, error) {
	uri := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: strings.Join(options, "&")}
	return sql.Open("sqlite", uri.String())
}

// judge reports whether there is a database to use. It writes nothing: first the
// header is read as a file, then SQLite reads it without the right to write,
// because pages that matter may still be in the write-ahead log.
func judge(ctx context.Context, path string) (bool, error) {
	header, err := readHeader(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, advisory.New("database-corrupt", "read database "+path, err)
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

const headerSize = 100

func readHeader(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
	case version < SchemaVersion:
		return refuseCorrupt(path, fmt.Errorf("schema version %d was never written by any creel", version))
	}
	return nil
}

func refuseForeign(path, why string) error {
	return advisory.New("database-foreign", fmt.Sprintf("database %s is not a gateway's: %s", path, why), nil)
}

func refuseCorrupt(path string, cause error) error {
	return advisory.New("database-corrupt", fmt.Sprintf("database %s is damaged (expected schema version %d)", path, SchemaVersion), cause)
}

// create makes the file whole under another name first: a crash leaves either no
// database or a complete one.
func create(ctx context.Context, path string) error {
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := state.RemoveIfExists(temporary); err != nil {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_RDWR, state.FileMode)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := connect(temporary, "_pragma=journal_mode(MEMORY)")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d; %s",
		applicationID, SchemaVersion, schema))
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return state.SyncDir(filepath.Dir(path))
}

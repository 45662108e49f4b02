// Package store keeps the gateway's objects in one SQLite file (WAL). It knows
// nothing of gRPC and decides nothing: what a record means is its users'.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo

	"creel/internal/advisory"
	"creel/internal/host"
	"creel/internal/state"
)

// SchemaVersion is the version that this build writes (PRAGMA user_version). Version 1
// has the same tables; what version 2 adds is in the records (forwards, their ports, how
// a dashboard is reached), which a build that only knows version 1 would drop without a
// word when it writes them. That one refuses version 2 before it writes.
const SchemaVersion = 2

// oldestVersion is the first version that this build reads; Open raises it.
const oldestVersion = 1

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
	Pages     Collection[Pages]
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
	// A first read, so that what is made beside the file is made now.
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return nil, errors.Join(notOpened(path, err), db.Close())
	}
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %s: %w", path, err), db.Close())
	}
	s := &Store{db: db}
	s.Sandboxes = newCollection[Sandbox](s, "sandbox")
	s.Providers = newCollection[Provider](s, "provider")
	s.Routes = newCollection[Route](s, "inference_route")
	s.Sessions = newCollection[Session](s, "ssh_session")
	s.Pages = newCollection[Pages](s, "dashboard_pages")
	return s, nil
}

// migrate makes an older database one of this version, which is one number.
func migrate(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == SchemaVersion {
		return nil
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version=%d", SchemaVersion))
	return err
}

// notOpened finds the reason that SQLite, which only says that it could not, does
// not give.
func notOpened(path string, err error) error {
	err = fmt.Errorf("open database %s: %w", path, err)
	if p, ok := advisory.Of(host.CheckWritable(filepath.Dir(path))); ok {
		return advisory.New(p.ID, p.Detail, err)
	}
	return err
}

// Close writes what is pending and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// connect uses a URI so that the path may hold any character.
func connect(path string, options ...string) (*sql.DB, error) {
	uri := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: strings.Join(options, "&")}
	return sql.Open("sqlite", uri.String())
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
	if err := setAside(path); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return state.SyncDir(filepath.Dir(path))
}

// setAside keeps the log of a database that was moved away without it: SQLite
// would write the old one's pages into the new one. It is kept for whoever wants
// to put the two together again; the index beside it is made anew from it.
func setAside(path string) error {
	log := path + "-wal"
	if err := os.Rename(log, log+".left-"+time.Now().UTC().Format("20060102T150405.000000000Z")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return state.RemoveIfExists(path + "-shm")
}

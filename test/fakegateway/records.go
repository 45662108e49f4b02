package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"
	_ "modernc.org/sqlite" // the driver "sqlite"

	openshellv1 "creel/api/openshell/v1"
)

// records are the gateway's sandboxes on disk, in a database with a format number
// (PRAGMA user_version) that each version raises to its own (mode file: format=N).
type records struct{ db *sql.DB }

// openRecords opens the database of an OPENSHELL_DB_URL; nil without one. A database
// of a later format is refused in the words of the real program's library.
func openRecords(url, format string, reached func(string)) *records {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok {
		return nil
	}
	path, _, _ = strings.Cut(path, "?")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(2000)")
	if err != nil {
		fatal(err)
	}
	db.SetMaxOpenConns(1)
	have, want := 0, 1
	if format != "" {
		_, _ = fmt.Sscan(format, &want)
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		fatal(err)
	}
	switch {
	case have > want:
		fatal(fmt.Errorf("migration %d was previously applied but is missing in the resolved migrations", have))
	case have < want:
		for ; have < want; have++ {
			change := fmt.Sprintf("ALTER TABLE sandboxes ADD COLUMN of_format_%d TEXT", have+1)
			if have == 0 {
				change = "CREATE TABLE sandboxes (name TEXT PRIMARY KEY, object TEXT NOT NULL, pid INTEGER NOT NULL)"
			}
			if _, err := db.Exec(change + fmt.Sprintf("; PRAGMA user_version = %d", have+1)); err != nil {
				fatal(err)
			}
		}
		reached(fmt.Sprintf("migrated to format %d", want))
	}
	return &records{db}
}

func (r *records) all() map[string]*openshellv1.Sandbox {
	found := map[string]*openshellv1.Sandbox{}
	if r == nil {
		return found
	}
	rows, err := r.db.Query("SELECT object, pid FROM sandboxes")
	if err != nil {
		fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var object string
		var pid int
		s := &openshellv1.Sandbox{}
		if err := errors.Join(rows.Scan(&object, &pid), protojson.Unmarshal([]byte(object), s)); err != nil {
			fatal(err)
		}
		if pid != 0 && syscall.Kill(pid, 0) != nil {
			s.Status.Phase = openshellv1.SandboxPhase_SANDBOX_PHASE_ERROR
		}
		found[s.GetMetadata().GetName()] = s
	}
	return found
}

func (r *records) save(s *openshellv1.Sandbox, pid int) {
	if r == nil {
		return
	}
	object, err := protojson.Marshal(s)
	if err == nil {
		_, err = r.db.Exec(`INSERT INTO sandboxes (name, object, pid) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET object = excluded.object`, s.GetMetadata().GetName(), string(object), pid)
	}
	if err != nil {
		fatal(err)
	}
}

// remove forgets a sandbox and ends its process.
func (r *records) remove(name string) {
	if r == nil {
		return
	}
	var pid int
	if err := r.db.QueryRow("SELECT pid FROM sandboxes WHERE name = ?", name).Scan(&pid); err == nil && pid > 1 {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // the session that survive made
	}
	if _, err := r.db.Exec("DELETE FROM sandboxes WHERE name = ?", name); err != nil {
		fatal(err)
	}
}

// survive starts a sandbox's process as a container engine would, of which the
// gateway is not the parent: it goes on when the gateway ends, and its heart beats
// into a file.
func survive(file string) int {
	cmd := exec.Command("/bin/sh", "-c", `while :; do echo "$$" >>"$0"; sleep 0.05; done`, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	return cmd.Process.Pid
}

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What a command leaves that found nothing is no gateway; anything else is one, also
// without the file that says what is wanted.
func TestSetUp(t *testing.T) {
	g := Roots{Config: filepath.Join(t.TempDir(), "config"), State: filepath.Join(t.TempDir(), "state")}.Gateway("creel")
	check := func(when string, want bool) {
		t.Helper()
		if got, err := g.SetUp(); err != nil || got != want {
			t.Errorf("%s: SetUp = %t, %v, want %t", when, got, err, want)
		}
	}
	write := func(path string) {
		t.Helper()
		if err := errors.Join(MkdirAll(filepath.Dir(path)), WriteFile(path, nil, FileMode)); err != nil {
			t.Fatal(err)
		}
	}
	check("on a fresh machine", false)
	write(g.Lock())
	write(g.Log())
	write(g.Log() + ".1")
	check("with a log and a lock", false)
	daemon, err := TryLock(g.File(DaemonLockFile), "test")
	if err != nil {
		t.Fatal(err)
	}
	check("while a daemon lives", true)
	if err := daemon.Unlock(); err != nil {
		t.Fatal(err)
	}
	check("after it has ended", false)
	write(g.Desired())
	check("with a desired state", true)
	if err := os.Remove(g.Desired()); err != nil {
		t.Fatal(err)
	}
	begun := func(when string, want bool) {
		t.Helper()
		if got, err := g.Begun(); err != nil || got != want {
			t.Errorf("%s: Begun = %t, %v, want %t", when, got, err, want)
		}
	}
	begun("with nothing", false)
	write(g.Journal())
	write(g.File(TLSDir) + "/" + CACertFile)
	check("with secrets", true)
	begun("with secrets", false)
	write(g.Database())
	begun("with a database", true)
}

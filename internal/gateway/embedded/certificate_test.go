package embedded

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/state"
)

func TestRenewedCertificateIsTaken(t *testing.T) {
	g := state.Roots{State: t.TempDir()}.Gateway("creel")
	store := dirstore.New(g)
	repair := func(o bundle.RepairOptions) bundle.Material {
		t.Helper()
		if _, err := bundle.Repair(t.Context(), store.Target(), time.Now(), o); err != nil {
			t.Fatal(err)
		}
		m, err := loadMaterial(context.Background(), g)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := repair(bundle.RepairOptions{})
	var log bytes.Buffer
	c := newCertificate(g, first, slog.New(slog.NewTextHandler(&log, nil)))
	serves := func(when string, want bundle.Material) {
		t.Helper()
		if got := c.current(); !got.Leaf.Equal(want.Server.Leaf) {
			t.Errorf("%s: certificate %x is served, not %x", when, got.Leaf.SerialNumber, want.Server.Leaf.SerialNumber)
		}
	}
	serves("at first", first)
	second := repair(bundle.RepairOptions{Renew: bundle.RenewAll})
	if second.Server.Leaf.Equal(first.Server.Leaf) {
		t.Fatal("nothing was renewed")
	}
	serves("renewed", second)
	// A write that is not finished, then one that is broken.
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.path); err != nil {
		t.Fatal(err)
	}
	serves("while it is gone", second)
	if err := state.WriteFile(c.path, content[:40], state.FileMode); err != nil {
		t.Fatal(err)
	}
	serves("broken", second)
	if !strings.Contains(log.String(), "cannot be used") {
		t.Errorf("the log does not say so: %s", log.String())
	}
	if err := state.WriteFile(c.path, content, state.FileMode); err != nil {
		t.Fatal(err)
	}
	serves("whole again", second)
	// Renewed while the client's certificate is being written: it is not missed.
	client := filepath.Join(g.File(state.TLSDir), state.ClientDir, state.TLSCertFile)
	third := repair(bundle.RepairOptions{Renew: bundle.RenewAll})
	whole, err := os.ReadFile(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(client); err != nil {
		t.Fatal(err)
	}
	serves("while the set is not whole", second)
	if err := state.WriteFile(client, whole, state.FileMode); err != nil {
		t.Fatal(err)
	}
	serves("when it is whole", third)
	// Another authority: its certificate would be refused by every client.
	if err := os.RemoveAll(g.File(state.TLSDir)); err != nil {
		t.Fatal(err)
	}
	repair(bundle.RepairOptions{})
	serves("of another authority", third)
}

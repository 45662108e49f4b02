// Package drivertest is the exam that every sandbox driver passes, and a driver
// in memory for the tests of those who use one. Only tests import it.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/credential"
	"creel/internal/sandbox"
)

// Exam examines a driver. newDriver makes one without sandboxes, whose sandboxes
// can be started; it is called once a part.
func Exam(t *testing.T, newDriver func(t *testing.T) sandbox.Driver) {
	for name, part := range map[string]func(*testing.T, sandbox.Driver){
		"prepare is idempotent":   prepareTwice,
		"nonsense is refused":     nonsense,
		"life":                    life,
		"destroy takes a running": destroyRunning,
		"sandboxes are apart":     apart,
		"a context bounds":        bounded,
	} {
		t.Run(name, func(t *testing.T) { part(t, newDriver(t)) })
	}
}

const gateway = "exam"

var (
	token     = credential.NewSecret("exam-token")
	dashboard = credential.NewSecret("exam-dashboard")
	relay     = credential.NewSecret("exam-relay")
)

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func prepare(t *testing.T, d sandbox.Driver, n int) sandbox.Handle {
	t.Helper()
	h, err := d.Prepare(t.Context(), id(n), fmt.Sprintf("box%d", n), gateway, sandbox.Spec{Agent: "command", Command: []string{"true"}})
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(context.WithoutCancel(t.Context()), h); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	return h
}

func begin(t *testing.T, d sandbox.Driver, h sandbox.Handle) sandbox.Liveness {
	t.Helper()
	if err := d.Start(t.Context(), h, token, dashboard, relay); err != nil {
		t.Fatalf("start: %v", err)
	}
	return expect(t, d, h, true)
}

func expect(t *testing.T, d sandbox.Driver, h sandbox.Handle, alive bool) sandbox.Liveness {
	t.Helper()
	l := d.Observe(t.Context(), h)
	if !l.Known || l.Alive != alive {
		t.Fatalf("observed %+v, want alive %v", l, alive)
	}
	if alive && l.PID == 0 {
		t.Errorf("alive without a process: %+v", l)
	}
	return l
}

func prepareTwice(t *testing.T, d sandbox.Driver) {
	if d.Name() == "" {
		t.Error("the driver has no name")
	}
	first := prepare(t, d, 1)
	if first.Version != 1 || first.Driver != d.Name() || first.ID != id(1) || first.Name != "box1" || first.Gateway != gateway {
		t.Errorf("handle %+v", first)
	}
	if first.HostUID <= 0 || first.HostGID <= 0 {
		t.Errorf("handle is root's: %+v", first)
	}
	second := prepare(t, d, 1)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second preparation changed the handle:\n%s", diff)
	}
	all, err := d.Handles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sandbox.Handle{first}, all); diff != "" {
		t.Errorf("handles:\n%s", diff)
	}
	changed, err := d.Prepare(t.Context(), id(1), "box1", gateway, sandbox.Spec{Agent: "console"})
	if err != nil {
		t.Fatal(err)
	}
	if changed.Spec.Agent != "console" || changed.HostUID != first.HostUID || !changed.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("a new spec gave %+v", changed)
	}
}

func nonsense(t *testing.T, d sandbox.Driver) {
	for _, bad := range []string{"", ".", "..", "a/b", "../x"} {
		if _, err := d.Prepare(t.Context(), bad, "box", gateway, sandbox.Spec{}); err == nil {
			t.Errorf("id %q was accepted", bad)
		}
	}
	if _, err := d.Prepare(t.Context(), id(1), "-bad-", gateway, sandbox.Spec{}); err == nil {
		t.Error("a bad name was accepted")
	}
	if all, err := d.Handles(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("refused sandboxes left %v, %v", all, err)
	}
	never := sandbox.Handle{Version: 1, ID: id(9), Name: "never", Gateway: gateway, Driver: d.Name(), HostUID: 600000, HostGID: 600000}
	if err := d.Start(t.Context(), never, token, dashboard, relay); err == nil {
		t.Error("a sandbox that was never prepared was started")
	}
	if err := d.Renew(t.Context(), never, token); err == nil {
		t.Error("a sandbox that was never prepared got a token")
	}
	h := prepare(t, d, 2)
	if err := d.Start(t.Context(), h, credential.Secret{}, dashboard, relay); err == nil {
		t.Error("a sandbox was started without a token")
	}
	expect(t, d, h, false)
	if _, err := d.Prepare(t.Context(), h.ID, "other", gateway, h.Spec); err == nil {
		t.Error("a sandbox changed its name")
	}
}

func life(t *testing.T, d sandbox.Driver) {
	h := prepare(t, d, 1)
	expect(t, d, h, false)
	first := begin(t, d, h)
	if again := begin(t, d, h); again.PID != first.PID {
		t.Errorf("starting what runs replaced process %d by %d", first.PID, again.PID)
	}
	if err := d.Renew(t.Context(), h, credential.NewSecret("another")); err != nil {
		t.Errorf("renew: %v", err)
	}
	for range 2 {
		if err := d.Stop(t.Context(), h); err != nil {
			t.Fatalf("stop: %v", err)
		}
		expect(t, d, h, false)
	}
	if all, err := d.Handles(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("a stopped sandbox is not listed: %v, %v", all, err)
	}
	if next := begin(t, d, h); next.PID == first.PID {
		t.Errorf("process %d was started twice", next.PID)
	}
}

func destroyRunning(t *testing.T, d sandbox.Driver) {
	h := prepare(t, d, 1)
	begin(t, d, h)
	for range 2 {
		if err := d.Destroy(t.Context(), h); err != nil {
			t.Fatalf("destroy: %v", err)
		}
		expect(t, d, h, false)
	}
	if all, err := d.Handles(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after destroy %v, %v are listed", all, err)
	}
	if err := d.Start(t.Context(), h, token, dashboard, relay); err == nil {
		t.Error("a destroyed sandbox was started")
	}
	if err := d.Stop(t.Context(), h); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
}

func apart(t *testing.T, d sandbox.Driver) {
	const n = 4
	handles := make([]sandbox.Handle, n)
	for i := range handles {
		handles[i] = prepare(t, d, i+1)
	}
	var wait sync.WaitGroup
	errs := make([]error, n)
	for i, h := range handles {
		wait.Go(func() {
			if errs[i] = d.Start(t.Context(), h, token, dashboard, relay); errs[i] == nil && i%2 == 0 {
				errs[i] = d.Stop(t.Context(), h)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, h := range handles {
		expect(t, d, h, i%2 != 0)
	}
	if err := d.Destroy(t.Context(), handles[0]); err != nil {
		t.Fatal(err)
	}
	expect(t, d, handles[1], true)
}

func bounded(t *testing.T, d sandbox.Driver) {
	h := prepare(t, d, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := d.Start(ctx, h, token, dashboard, relay); !errors.Is(err, enough) {
		t.Errorf("start in an ended context: %v", err)
	}
	expect(t, d, h, false)
}

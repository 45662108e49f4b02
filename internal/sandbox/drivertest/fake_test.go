package drivertest

import (
	"errors"
	"testing"

	"creel/internal/sandbox"
)

func TestFake(t *testing.T) {
	Exam(t, func(*testing.T) sandbox.Driver { return NewFake() })
}

func TestFakeFails(t *testing.T) {
	f := NewFake()
	h := prepare(t, f, 1)
	broken := errors.New("broken")
	f.Fail("Start", broken)
	if err := f.Start(t.Context(), h, token, dashboard, relay); !errors.Is(err, broken) {
		t.Fatalf("start: %v", err)
	}
	f.Fail("Start", nil)
	begin(t, f, h)
	f.Die(h.ID)
	expect(t, f, h, false)
	if s, ok := f.Secrets(h.ID); !ok || s.Token.Reveal() != token.Reveal() {
		t.Errorf("secrets %v %v", s, ok)
	}
}

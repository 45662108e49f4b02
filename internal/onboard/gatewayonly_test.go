package onboard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/desired"
)

// A gateway can be wanted alone, and stays so until a command line says otherwise.
func TestSettleGatewayOnly(t *testing.T) {
	cluster := desired.New("creel")
	cluster.Runtime, cluster.Driver, cluster.Cluster.Namespace = desired.Kubernetes, "kubernetes", "ns"
	environment := map[string]string{"CREEL_SANDBOX_NAME": "other", "CREEL_PROVIDER": "openai", "CREEL_MODEL": "m", "OPENAI_API_KEY": canary}
	settle := func(only bool, recorded *desired.Document, flags map[Key]string, command ...string) (Settled, error) {
		return Settle(t.Context(), Inputs{Gateway: "creel", Flags: flags, Command: command, GatewayOnly: only, Recorded: recorded,
			Getenv: func(n string) string { return environment[n] }, Prompter: &person{t: t}})
	}
	for name, c := range map[string]struct {
		only     bool
		recorded *desired.Document
		flags    map[Key]string
		command  []string
		sandbox  string // wanted in the end; empty is the gateway alone
	}{
		"nothing recorded":             {only: true},
		"in a cluster":                 {only: true, flags: map[Key]string{Runtime: desired.Kubernetes, Namespace: "ns"}},
		"provider none said too":       {only: true, flags: map[Key]string{Provider: "none"}},
		"recorded, said again":         {only: true, recorded: &cluster},
		"recorded of a cluster":        {recorded: &cluster},
		"another port of it":           {recorded: &cluster, flags: map[Key]string{GatewayPort: "9000"}},
		"a program is said":            {recorded: &cluster, command: []string{"sleep", "9"}, flags: map[Key]string{Provider: "none"}, sandbox: "other"},
		"Creel's own, nothing is said": {recorded: ptr(desired.New("creel")), flags: map[Key]string{Provider: "none"}, sandbox: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := settle(c.only, c.recorded, c.flags, c.command...)
			if err != nil {
				t.Fatal(err)
			}
			if s.Sandbox != c.sandbox || s.Document.GatewayOnly() != (c.sandbox == "") || !s.Key.Empty() {
				t.Errorf("sandbox %q, gateway only %t: %+v", s.Sandbox, s.Document.GatewayOnly(), s.Document)
			}
		})
	}
	for name, c := range map[string]struct {
		recorded *desired.Document
		flags    map[Key]string
		command  []string
		says     string
	}{
		"a sandbox's name":   {flags: map[Key]string{Name: "x"}, says: "--name"},
		"a model":            {flags: map[Key]string{Model: "x"}, says: "--model"},
		"a provider":         {flags: map[Key]string{Provider: "openai"}, says: "--provider"},
		"a program":          {command: []string{"make"}, says: "-- make"},
		"a recorded sandbox": {recorded: recordedDocument(), says: "recorded sandbox old"},
	} {
		t.Run("with "+name, func(t *testing.T) {
			_, err := settle(true, c.recorded, c.flags, c.command...)
			p, ok := advisory.Of(err)
			if !ok || p.ID != "flag-conflict" || !strings.Contains(p.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A kubeconfig is read from other directories too.
func TestKubeconfigIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Settle(t.Context(), Inputs{Gateway: "creel", GatewayOnly: true, Flags: map[Key]string{Runtime: desired.Kubernetes, Kubeconfig: "k.yaml"},
		Getenv: func(string) string { return "" }})
	if err != nil || s.Document.Cluster.Kubeconfig != filepath.Join(here, "k.yaml") {
		t.Errorf("%q, %v", s.Document.Cluster.Kubeconfig, err)
	}
}

// A declared endpoint is taken back by an empty one, and by nothing else.
func TestEndpointIsTakenBack(t *testing.T) {
	d := desired.New("creel")
	d.Runtime, d.Driver, d.Gateway.Endpoint = desired.Kubernetes, "kubernetes", "https://gateway.example:8443"
	for _, c := range []struct {
		flags map[Key]string
		want  string
	}{{map[Key]string{}, d.Gateway.Endpoint}, {map[Key]string{GatewayEndpoint: ""}, ""}, {map[Key]string{GatewayEndpoint: "https://other.example:1"}, "https://other.example:1"}} {
		s, err := Settle(t.Context(), Inputs{Gateway: "creel", Recorded: &d, GatewayOnly: true, Flags: c.flags, Getenv: func(string) string { return "" }})
		if err != nil || s.Document.Gateway.Endpoint != c.want {
			t.Errorf("%v: endpoint %q, want %q (%v)", c.flags, s.Document.Gateway.Endpoint, c.want, err)
		}
	}
}

// A fresh start forgets answers about the model, and not how and where the gateway
// is run.
func TestFreshKeepsTheRuntime(t *testing.T) {
	d := desired.New("creel")
	d.Runtime, d.Driver, d.Cluster.Namespace = desired.Kubernetes, "kubernetes", "ns"
	p := &person{t: t, answers: map[string]string{"Model provider": "none"}}
	s, err := Settle(t.Context(), Inputs{Gateway: "creel", Recorded: &d, Fresh: true, Flags: map[Key]string{Name: "box"}, Command: []string{"make"},
		Getenv: func(string) string { return "" }, Prompter: p})
	if err != nil || s.Document.Runtime != desired.Kubernetes || s.Document.Cluster.Namespace != "ns" || len(p.asked) != 1 {
		t.Errorf("%+v, asked %q, %v", s.Document, p.asked, err)
	}
}

func ptr[T any](v T) *T { return &v }

package openshell

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"creel/internal/advisory"
	"creel/internal/gateway/release"
	"creel/internal/state"
)

// table is the file as a parser sees it that knows nothing of document.
func table(t *testing.T, r *Runtime, version string, namespace string) map[string]any {
	t.Helper()
	v, _ := release.Parse(version)
	content, err := r.configuration(v, r.environment("/opt/gw", 8081, v), namespace)
	if err != nil {
		t.Fatal(err)
	}
	if content == "" {
		return nil
	}
	var all map[string]any
	if err := toml.Unmarshal([]byte(content), &all); err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	return all
}

func TestConfiguration(t *testing.T) {
	r := home(t, map[string]string{"OPENSHELL_DOCKER_SUPERVISOR_BIN": "/opt/openshell-sandbox"})
	g := r.cfg.Gateway
	tls, keys := g.File(state.TLSDir), g.File(state.JWTDir)
	guest := map[string]any{"guest_tls_ca": tls + "/ca.crt", "guest_tls_cert": tls + "/client/tls.crt", "guest_tls_key": tls + "/client/tls.key"}
	driver := map[string]any{"sandbox_namespace": "openshell-creel", "grpc_endpoint": "https://127.0.0.1:8081", "network_name": "openshell-creel",
		"supervisor_bin": "/opt/openshell-sandbox", "guest_tls_ca": guest["guest_tls_ca"], "guest_tls_cert": guest["guest_tls_cert"], "guest_tls_key": guest["guest_tls_key"]}
	jwt := map[string]any{"signing_key_path": keys + "/signing.pem", "public_key_path": keys + "/public.pem", "kid_path": keys + "/kid", "gateway_id": "creel"}
	file := func(version int64, gateway, docker map[string]any) map[string]any {
		return map[string]any{"openshell": map[string]any{"version": version, "gateway": gateway, "drivers": map[string]any{"docker": docker}}}
	}
	first := file(1, map[string]any{"compute_drivers": []any{"docker"}}, driver)
	withTokens := file(1, map[string]any{"compute_drivers": []any{"docker"}, "gateway_jwt": jwt}, driver)
	second := file(2, map[string]any{"compute_driver": "docker", "gateway_jwt": jwt, "guest_tls_ca": guest["guest_tls_ca"], "guest_tls_cert": guest["guest_tls_cert"], "guest_tls_key": guest["guest_tls_key"]},
		map[string]any{"sandbox_label": "openshell-creel", "supervisor_bin": "/opt/openshell-sandbox"})
	for version, want := range map[string]map[string]any{
		"": nil, "dev": nil, "0.0.36": nil, "0.0.37": nil, "0.0.43": nil,
		"0.0.44": first, "0.0.46": first,
		"0.0.47": withTokens, "0.0.88": withTokens, "0.0.116": withTokens, "0.0.116-dev.1": withTokens,
		"0.1.0-pre.1": second, "0.1.0": second, "0.1.9": second, "1.0.0": second,
	} {
		if diff := cmp.Diff(want, table(t, r, version, "openshell-creel")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", version, diff)
		}
		v, _ := release.Parse(version)
		env := listed(r.environment("/opt/gw", 8081, v))
		named := slices.Contains(env, "OPENSHELL_GATEWAY_CONFIG="+g.File(state.ProcessConfigFile))
		if named != (want != nil) || slices.Contains(env, "OPENSHELL_ENABLE_MTLS_AUTH=true") != named {
			t.Errorf("%q: environment %q", version, env)
		}
		if v2 := strings.HasPrefix(version, "0.1") || version == "1.0.0"; slices.Contains(env, "OPENSHELL_COMPUTE_DRIVER=docker") != v2 || slices.Contains(env, "OPENSHELL_DRIVERS=docker") == v2 {
			t.Errorf("%q: environment %q", version, env)
		}
	}

	// In plaintext nobody has a certificate, and sandboxes are given none.
	r.cfg.Plaintext = true
	for version, open := range map[string]bool{"0.0.44": false, "0.0.49": false, "0.0.50": true, "0.0.116": true, "0.1.0": true} {
		got := table(t, r, version, "")["openshell"].(map[string]any)
		gateway := got["gateway"].(map[string]any)
		auth, _ := gateway["auth"].(map[string]any)
		if (auth["allow_unauthenticated_users"] == true) != open {
			t.Errorf("%s: %v", version, gateway)
		}
		if text := strings.Join(keysOf(gateway), " ") + strings.Join(keysOf(got["drivers"].(map[string]any)["docker"].(map[string]any)), " "); strings.Contains(text, "guest_tls") || strings.Contains(text, "namespace") {
			t.Errorf("%s: %s", version, text)
		}
	}
}

func keysOf(m map[string]any) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

// A gateway labels its sandboxes' containers as it began to: it would not find them
// otherwise.
func TestNamespace(t *testing.T) {
	r := home(t, nil)
	g := r.cfg.Gateway
	is := func(want string) {
		t.Helper()
		if got, err := r.namespace(); err != nil || got != want {
			t.Errorf("namespace %q, %v; want %q", got, err, want)
		}
	}
	is("openshell-creel")
	write(t, g.File(state.ProcessDatabase), "")
	is("") // it served before there was a file
	for version, key := range map[string]string{"1": "sandbox_namespace", "2": "sandbox_label"} {
		write(t, g.File(state.ProcessConfigFile), "[openshell]\nversion = "+version+"\n[openshell.drivers.docker]\n"+key+" = \"as-it-began\"\n")
		is("as-it-began")
		write(t, g.File(state.ProcessConfigFile), "[openshell]\nversion = "+version+"\n")
		is("")
	}
	// From one schema to the other it stays.
	v1, _ := release.Parse("0.0.116")
	content, err := r.configuration(v1, r.environment("/opt/gw", 1, v1), "kept")
	if err != nil {
		t.Fatal(err)
	}
	write(t, g.File(state.ProcessConfigFile), content)
	is("kept")
	v2, _ := release.Parse("0.1.0")
	if content, err = r.configuration(v2, r.environment("/opt/gw", 1, v2), "kept"); err != nil {
		t.Fatal(err)
	}
	write(t, g.File(state.ProcessConfigFile), content)
	is("kept")
	write(t, g.File(state.ProcessConfigFile), "= noise")
	if _, err := r.namespace(); err == nil || !strings.Contains(err.Error(), g.File(state.ProcessConfigFile)) {
		t.Errorf("noise: %v", err)
	} else if p, ok := advisory.Of(err); !ok || p.ID != "gateway-record-invalid" {
		t.Errorf("noise: %v", err)
	}
}

// script is a program that is asked for its version.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), program)
	if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAskVersion(t *testing.T) {
	t.Setenv("CREEL_BUDGET_PROBE", "500ms")
	getenv := func(n string) string { return map[string]string{"PATH": os.Getenv("PATH"), "SECRET": "x"}[n] }
	for name, c := range map[string]struct{ body, want, problem string }{
		"plain":          {"#!/bin/sh\n[ \"$1\" = --version ] && echo openshell-gateway 0.0.88\n", "0.0.88", ""},
		"with a v":       {"#!/bin/sh\necho openshell-gateway v0.0.88\n", "0.0.88", ""},
		"pre-release":    {"#!/bin/sh\necho 'openshell-gateway 0.0.116-dev.1 (abc)'\n", "0.0.116-dev.1", ""},
		"another":        {"#!/bin/sh\necho openshell 0.0.88\n", "", ""},
		"noise":          {"#!/bin/sh\necho openshell-gateway latest\n", "", ""},
		"silent":         {"#!/bin/sh\n", "", ""},
		"no such flag":   {"#!/bin/sh\necho \"error: unexpected argument '--version' found\" >&2\nexit 2\n", "", ""},
		"hangs":          {"#!/bin/sh\nexec sleep 600\n", "", ""},
		"floods":         {"#!/bin/sh\nyes openshell-gateway 0.0.88\n", "", ""},
		"no secrets":     {"#!/bin/sh\n[ -z \"$SECRET\" ] && echo openshell-gateway 0.0.1\n", "0.0.1", ""},
		"glibc":          {"#!/bin/sh\necho \"gw: /lib/libc.so.6: version \\`GLIBC_2.39' not found (required by gw)\" >&2\nexit 1\n", "", "gateway-glibc"},
		"library":        {"#!/bin/sh\necho 'gw: error while loading shared libraries: libz3.so: cannot open shared object file' >&2\nexit 127\n", "", "gateway-library-missing"},
		"no executable":  {"\x7fELFnoise", "", "gateway-executable-broken"},
		"no interpreter": {"#!/nowhere/sh\n", "", "none"},
	} {
		got, err := askVersion(t.Context(), script(t, c.body), getenv)
		p, explained := advisory.Of(err)
		switch {
		case c.problem == "none" && (err == nil || explained):
			t.Errorf("%s: %v", name, err)
		case c.problem != "none" && (err == nil) != (c.problem == ""), c.problem != "" && c.problem != "none" && p.ID != c.problem:
			t.Errorf("%s: %v", name, err)
		case got != c.want:
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

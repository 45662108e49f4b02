package openclaw

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inside is a sandbox as Main sees it.
type inside struct {
	home    string
	environ []string
	log     bytes.Buffer
	// path, argv and env are what was executed; path is empty when nothing was.
	path      string
	argv, env []string
}

func newInside(t *testing.T, more ...string) *inside {
	t.Helper()
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	put(t, filepath.Join(bin, "openclaw"), "#!/bin/sh\n", 0o755)
	put(t, filepath.Join(bin, "notes.txt"), "no program\n", 0o644)
	return &inside{home: home, environ: append([]string{"HOME=" + home, "PATH=relative:/does/not/exist:" + bin,
		"CREEL_DASHBOARD_TOKEN=" + canary, "CREEL_AGENT_PORT=18789",
		"CREEL_DASHBOARD_ORIGINS=http://127.0.0.1:18790,https://agent.example"}, more...)}
}

func put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func (i *inside) main(program ...string) int {
	i.path = ""
	return Main(program, Process{Environ: i.environ, Log: &i.log, Exec: func(path string, argv, environ []string) error {
		i.path, i.argv, i.env = path, argv, environ
		return errors.New("this is a test")
	}})
}

func (i *inside) config() string { return filepath.Join(i.home, ".openclaw", "openclaw.json") }

func TestBecomesOpenClaw(t *testing.T) {
	i := newInside(t, "OTHER=kept")
	if code := i.main("openclaw", "--verbose"); code != 126 {
		t.Errorf("exit code %d after an exec that failed", code)
	}
	if want := filepath.Join(i.home, "bin", "openclaw"); i.path != want {
		t.Errorf("executed %q, want %q", i.path, want)
	}
	if diff := cmp.Diff([]string{"openclaw", "--verbose", "gateway", "run"}, i.argv); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(i.env, "OTHER=kept") || strings.Contains(strings.Join(i.env, "\n"), canary) {
		t.Errorf("environment of the program: %q", i.env)
	}
	content, err := os.ReadFile(i.config())
	if err != nil {
		t.Fatal(err)
	}
	if g := read(t, content); g.Auth.Token != canary || g.Port != 18789 || !slices.Equal(g.UI.Origins, page.Origins) {
		t.Errorf("configuration: %s", content)
	}
	if info, err := os.Stat(i.config()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if strings.Contains(i.log.String(), canary) {
		t.Errorf("the log holds the token: %s", &i.log)
	}
	// What is as it should be is not written again.
	before, err := os.Stat(i.config())
	if err != nil {
		t.Fatal(err)
	}
	i.main("openclaw")
	if after, err := os.Stat(i.config()); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again: %v", err)
	}
}

// A file that cannot be understood is left as it is, and OpenClaw is not started
// with somebody else's access.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		more    []string
		prepare func(*testing.T, *inside)
		program []string
		code    int
		says    string
	}{
		{"no token", []string{"CREEL_DASHBOARD_TOKEN="}, nil, []string{"openclaw"}, 2, "CREEL_DASHBOARD_TOKEN is not set"},
		{"bad port", []string{"CREEL_AGENT_PORT=x"}, nil, []string{"openclaw"}, 2, "CREEL_AGENT_PORT"},
		{"no home", []string{"HOME="}, nil, []string{"openclaw"}, 1, "HOME"},
		{"no program", nil, nil, nil, 2, "no program"},
		{"not installed", nil, nil, []string{"openclow"}, 127, "creel onboard --agent openclaw -- PROGRAM"},
		{"not there", nil, nil, []string{"/does/not/exist/openclaw"}, 127, "/does/not/exist/openclaw"},
		{"no permission", nil, nil, []string{"notes.txt"}, 127, "notes.txt"},
		{"damaged configuration", nil, func(t *testing.T, i *inside) { put(t, i.config(), "{gateway: 1}", 0o600) }, []string{"openclaw"}, 1, "line 1"},
		{"a directory", nil, func(t *testing.T, i *inside) { put(t, filepath.Join(i.config(), "x"), "", 0o600) }, []string{"openclaw"}, 1, "no file"},
		{"huge", nil, func(t *testing.T, i *inside) { put(t, i.config(), strings.Repeat(" ", maxConfig+1), 0o600) }, []string{"openclaw"}, 1, "larger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := newInside(t, c.more...)
			if c.prepare != nil {
				c.prepare(t, i)
			}
			before, _ := os.ReadFile(i.config())
			if code := i.main(c.program...); code != c.code || i.path != "" {
				t.Errorf("exit code %d, executed %q; want %d and nothing", code, i.path, c.code)
			}
			if !strings.Contains(i.log.String(), c.says) || strings.Contains(i.log.String(), canary) {
				t.Errorf("log %q does not say %q, or holds the token", &i.log, c.says)
			}
			if after, _ := os.ReadFile(i.config()); !bytes.Equal(before, after) {
				t.Errorf("the configuration was changed to %q", after)
			}
		})
	}
}

// Who keeps the file elsewhere keeps it there.
func TestConfigurationElsewhere(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "mine.json")
	put(t, elsewhere, `{"agents":{}}`, 0o644)
	for _, way := range []string{"link", "variable"} {
		i := newInside(t)
		if way == "variable" {
			i.environ = append(i.environ, "OPENCLAW_CONFIG_PATH="+elsewhere)
		} else {
			if err := os.MkdirAll(filepath.Dir(i.config()), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, i.config()); err != nil {
				t.Fatal(err)
			}
		}
		i.main("openclaw")
		content, err := os.ReadFile(elsewhere)
		if err != nil || !strings.Contains(string(content), "agents") || read(t, content).Auth.Token != canary {
			t.Errorf("%s: %v\n%s\n%s", way, err, content, &i.log)
		}
		if info, err := os.Lstat(i.config()); way == "link" && (err != nil || info.Mode()&os.ModeSymlink == 0) {
			t.Errorf("the link was replaced: %v, %v", info, err)
		}
	}
}

// Origins of an earlier page go, those that somebody else allowed stay.
func TestOriginsOfAnEarlierPage(t *testing.T) {
	i := newInside(t)
	put(t, i.config(), `{"gateway":{"controlUi":{"allowedOrigins":["https://mine.example"]}}}`, 0o600)
	getenv := func(name string) string { return lookup(i.environ, name) }
	for _, origin := range []string{"http://127.0.0.1:1", "http://127.0.0.1:2"} {
		a := page
		a.Origins = []string{origin}
		if err := configure(getenv, a, &i.log); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(i.config())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{origin, "https://mine.example"}, read(t, content).UI.Origins); diff != "" {
			t.Error(diff)
		}
	}
	// Once it has gone it is anybody's: who adds it keeps it.
	put(t, i.config(), `{"gateway":{"controlUi":{"allowedOrigins":["http://127.0.0.1:1"]}}}`, 0o600)
	if err := configure(getenv, page, &i.log); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(i.config())
	if err != nil || !slices.Contains(read(t, content).UI.Origins, "http://127.0.0.1:1") {
		t.Errorf("%v: %s", err, content)
	}
}

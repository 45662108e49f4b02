package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/host"
)

// The first opener that is there gets the URL.
func TestOpenBrowser(t *testing.T) {
	for _, c := range []struct {
		name    string
		wsl     bool
		present []string
		want    string
	}{
		{"a desktop", false, []string{"xdg-open", "gio"}, "xdg-open http://127.0.0.1:1/x"},
		{"without xdg-utils", false, []string{"gio"}, "gio open http://127.0.0.1:1/x"},
		{"WSL", true, []string{"wslview", "xdg-open"}, "wslview http://127.0.0.1:1/x"},
		{"WSL without wslu", true, []string{"rundll32.exe", "xdg-open"}, "rundll32.exe url.dll,FileProtocolHandler http://127.0.0.1:1/x"},
		{"WSL without Windows", true, []string{"xdg-open"}, "xdg-open http://127.0.0.1:1/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			said := filepath.Join(dir, "said")
			for _, name := range c.present {
				script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >%s\n", name, said)
				if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			if words, err := opener(c.wsl); err != nil || filepath.Base(words[0]) != strings.Fields(c.want)[0] {
				t.Errorf("the opener is %q, %v", words, err)
			}
			if err := openBrowser(t.Context(), c.wsl, "http://127.0.0.1:1/x"); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(said)
			if err != nil || strings.TrimSpace(string(got)) != c.want {
				t.Errorf("ran %q, %v; want %q", got, err, c.want)
			}
		})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gio"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if err := openBrowser(t.Context(), false, "http://127.0.0.1:1/x"); err == nil || err.Error() != "run gio: exit status 3" {
		t.Errorf("an opener that fails: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if machine(host.Sources{}).Opener {
		t.Error("a machine without any is said to have one")
	}
	err := openBrowser(context.Background(), false, "http://127.0.0.1:1/x")
	if p, ok := advisory.Of(err); !ok || p.ID != "browser-missing" || !strings.Contains(err.Error(), "xdg-open, gio, x-www-browser") {
		t.Errorf("without any: %v", err)
	}
}

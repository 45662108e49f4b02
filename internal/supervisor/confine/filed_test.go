//go:build linux

package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
)

// split is total bytes in arguments of at most 32 KiB.
func split(total int, text string) []string {
	var all []string
	for left := strings.Repeat(text, total/len(text)); left != ""; {
		n := min(len(left), 32<<10)
		all, left = append(all, left[:n]), left[n:]
	}
	return all
}

// One message between supervisor and first process holds 192 KiB of JSON, in which
// some characters take six bytes. Commands up to the 256 KiB that may be asked for
// were refused from there on.
func TestLongCommands(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		count := []string{"sh", "-c", `printf %s "$@" | wc -c`, "sh"}
		for _, c := range []struct {
			total int
			text  string
		}{
			{maxMessage - 4096, "a"}, {maxMessage - 50, "a"}, {maxMessage, "a"}, {maxMessage + 1, "a"}, {256 << 10, "a"},
			{40 << 10, "<"}, {256 << 10, "\x01"}, {1 << 20, "a"},
		} {
			r := run(t, b, slices.Concat(count, split(c.total, c.text))...)
			if r.status.Code != 0 || strings.TrimSpace(r.stdout) != fmt.Sprint(c.total) {
				t.Errorf("%d times %q: %+v", c.total, c.text, r)
			}
		}
		// A variable, and the descriptors that come before the file.
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		env := []string{"PATH=/usr/bin:/bin", "A=" + strings.Repeat("é", 60<<10), "B=" + strings.Repeat("b", 100<<10)}
		p, err := b.Spawn(t.Context(), Command{Argv: []string{"sh", "-c", "printf %s $A$B | wc -c"}, Env: env}, nil, out, nil)
		if err := errors.Join(err, out.Close()); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 64)
		n, _ := in.Read(said) // what is missing shows below
		if s, err := p.Wait(t.Context()); err != nil || s.Code != 0 || strings.TrimSpace(string(said[:n])) != fmt.Sprint(220<<10) {
			t.Errorf("variables: %+v, %v, said %q", s, err, said[:n])
		}

		for name, c := range map[string]struct {
			command Command
			says    string
		}{
			"argument": {Command{Argv: []string{"true", strings.Repeat("x", maxString+1)}}, "argument 1 has 131072 bytes, the kernel takes at most 131071"},
			"variable": {Command{Argv: []string{"true"}, Env: []string{"BIG=" + strings.Repeat("x", 128<<10)}}, "BIG has 131076 bytes, the kernel takes at most 131071"},
			"all":      {Command{Argv: append([]string{"true"}, split(maxRequest, "x")...)}, fmt.Sprintf("the limit is %d", maxRequest)},
		} {
			_, err := b.Spawn(t.Context(), c.command, nil, nil, nil)
			if !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
		if r := run(t, b, "true"); r.status.Code != 0 {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

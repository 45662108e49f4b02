package version

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	vcs := func(rev, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: rev}, {Key: "vcs.modified", Value: modified}}
	}
	for _, c := range []struct {
		name, stamp string
		info        *debug.BuildInfo
		want        string
	}{
		{"the linker's stamp wins", "1.2.3", &debug.BuildInfo{Main: debug.Module{Version: "v9.9.9"}}, "1.2.3"},
		{"module version", "", &debug.BuildInfo{Main: debug.Module{Version: "v0.4.0"}}, "v0.4.0"},
		{"revision", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("0123456789abcdef", "false")}, "devel-0123456789ab"},
		{"changed working tree", "", &debug.BuildInfo{Settings: vcs("0123456789abcdef", "true")}, "devel-0123456789ab+dirty"},
		{"short revision", "", &debug.BuildInfo{Settings: vcs("0123", "false")}, "devel-0123"},
		{"nothing known", "", &debug.BuildInfo{}, Unknown},
		{"no build information", "", nil, Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := describe(c.stamp, c.info); got != c.want {
				t.Errorf("describe = %q, want %q", got, c.want)
			}
		})
	}
}

func TestBuildIDFollowsContent(t *testing.T) {
	self, err := Identify()
	if err != nil {
		t.Fatal(err)
	}
	if BuildID() != self {
		t.Errorf("BuildID = %q, Identify = %q", BuildID(), self)
	}
	dir := t.TempDir()
	content, err := os.ReadFile(Executable())
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy")
	if err := os.WriteFile(copied, content, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := BuildIDOf(copied); err != nil || got != self {
		t.Errorf("build id of a copy = %q, %v; want %q", got, err, self)
	}
	// Not an ELF file: two contents, two ids.
	ids := map[string]bool{self: true}
	for _, script := range []string{"#!/bin/sh\n", "#!/bin/sh\nexit 1\n", "", "\x7fELF"} {
		p := filepath.Join(dir, "script")
		if err := os.WriteFile(p, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		id, err := BuildIDOf(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(id) != 32 || ids[id] {
			t.Errorf("build id of %q = %q: not 32 digits of its own", script, id)
		}
		ids[id] = true
	}
	if _, err := BuildIDOf(filepath.Join(dir, "absent")); err == nil {
		t.Error("the build id of an absent file is no error")
	}
}

func FuzzFindNote(f *testing.F) {
	good := binary.LittleEndian.AppendUint32(nil, 4)
	good = binary.LittleEndian.AppendUint32(good, 3)
	good = binary.LittleEndian.AppendUint32(good, goNoteType)
	good = append(good, "Go\x00\x00abc\x00"...)
	if got := findNote(good, binary.LittleEndian); string(got) != "abc" {
		f.Fatalf("findNote = %q, want abc", got)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		id := findNote(b, binary.LittleEndian)
		if id != nil && !bytes.Contains(b, id) {
			t.Errorf("note %x is not part of the input", id)
		}
		_, _ = goBuildID(bytes.NewReader(b))
	})
}

func BenchmarkBuildIDOf(b *testing.B) {
	for b.Loop() {
		if _, err := BuildIDOf(Executable()); err != nil {
			b.Fatal(err)
		}
	}
}

package supervisor

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smaps = `00400000-00402000 r--p 00000000 fe:00 1   /opt/creel/creel
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
00402000-00403000 r-xp 00002000 fe:00 1   /opt/creel/creel
Anonymous:             4 kB
AnonHugePages:         0 kB
00403000-00404000 rw-p 00003000 fe:00 1   /opt/creel/creel
Anonymous:             0 kB
00404000-00405000 r--p 00003000 fe:00 1   /opt/creel/creel
Rss:                   0 kB
00405000-00406000 r--p 00003000 fe:00 1   /opt/creel/creel.other
Anonymous:             0 kB
00500000-00600000 rw-p 00000000 00:00 0 
Anonymous:          1024 kB
7ffc0000-7ffd0000 r--p 00000000 00:00 0                  [vvar]
`

func TestRegions(t *testing.T) {
	want := []region{{from: 0x400000, to: 0x402000}, {from: 0x402000, to: 0x403000, anonymous: true},
		{from: 0x403000, to: 0x404000, writable: true}, {from: 0x404000, to: 0x405000, anonymous: true}}
	if d := cmp.Diff(want, regions([]byte(smaps), "/opt/creel/creel"), cmp.AllowUnexported(region{})); d != "" {
		t.Error(d)
	}
}

// Afterwards the program still runs, and what it had written is still there.
func TestReleaseProgram(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	droppable := 0
	for _, r := range regions(now, path) {
		if !r.writable && !r.anonymous {
			droppable++
		}
	}
	if droppable < 2 {
		t.Fatalf("%d regions of %s would be released; its code and its constants should be", droppable, path)
	}
	written := map[string]int{"before": 1}
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if written["after"]++; written["before"] != 1 || len(written) != 2 {
		t.Errorf("memory changed: %v", written)
	}
}

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/state"
	"creel/test/require"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCollect(t *testing.T) {
	f := Collect()
	if f.Kernel == "" || f.CPUs < 1 || f.Memory.Total == 0 || f.Memory.Available > f.Memory.Total {
		t.Errorf("Collect = %+v", f)
	}
	if f.Root != (os.Geteuid() == 0) {
		t.Errorf("Collect = %+v", f)
	}
}

func TestParseMeminfo(t *testing.T) {
	got := parseMeminfo([]byte("MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\nSwapTotal: 0 kB\nSwapFree: many kB\nnonsense\n"))
	if want := (Memory{Total: 2 << 20, Available: 1 << 20}); got != want {
		t.Errorf("parseMeminfo = %+v, want %+v", got, want)
	}
}

func TestFreeDiskOfWhatIsNotThereYet(t *testing.T) {
	dir := t.TempDir()
	d, err := FreeDisk(filepath.Join(dir, "not", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Path != dir || d.Total == 0 || d.Free > d.Total {
		t.Errorf("FreeDisk = %+v", d)
	}
}

func TestNetworkFilesystemIsLocal(t *testing.T) {
	if name, err := NetworkFilesystem("/proc"); err != nil || name != "" {
		t.Errorf("NetworkFilesystem(/proc) = %q, %v", name, err)
	}
}

func TestCheckWritable(t *testing.T) {
	dir := t.TempDir()
	if err := CheckWritable(filepath.Join(dir, "a", "b")); err != nil {
		t.Error(err)
	}
	if err := tryTemporary(dir); err != nil {
		t.Error(err)
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 0 {
		t.Errorf("left behind: %v, %v", es, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, under := range []string{file, filepath.Join(file, "state"), filepath.Join(file, "state", "gateways")} {
		wantAdvisory(t, CheckWritable(under), "state-not-directory", file)
	}
}

func wantAdvisory(t *testing.T, err error, id, names string) {
	t.Helper()
	p, ok := advisory.Of(err)
	if !ok || p.ID != id {
		t.Errorf("error = %v, want advisory %s", err, id)
		return
	}
	if !strings.Contains(err.Error(), names) {
		t.Errorf("error %q does not name %s", err, names)
	}
	if _, known := advisory.Lookup(id); !known {
		t.Errorf("advisory %s is not in the registry", id)
	}
}

func TestCheckWritableByAnotherUser(t *testing.T) {
	require.Feature(t, "ordinary-user", os.Geteuid() != 0, "run the test as an ordinary user; root may write everywhere")
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	wantAdvisory(t, CheckWritable(dir), "state-permission", dir)
}

// A full disk and a read-only one, for real.
func TestFullAndReadOnlyDisk(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the test as root, which may mount")
	dir := t.TempDir()
	if err := syscall.Mount("creel-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		require.Feature(t, "root", false, "mounting a tmpfs must be permitted: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := CheckWritable(dir); err != nil {
		t.Fatal(err)
	}
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	if err := fill.Close(); err != nil {
		t.Fatal(err)
	}
	wantAdvisory(t, CheckWritable(dir), "disk-full", dir)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wantAdvisory(t, CheckWritable(dir), "disk-read-only", dir)
}

func TestExplain(t *testing.T) {
	other := errors.New("other")
	if err := Explain(other, "/x"); err != other {
		t.Errorf("Explain = %v", err)
	}
	if err := Explain(nil, "/x"); err != nil {
		t.Errorf("Explain(nil) = %v", err)
	}
	own := advisory.New("disk-full", "mine", syscall.EROFS)
	if err := Explain(own, "/x"); err != error(own) {
		t.Errorf("Explain replaced an advisory: %v", err)
	}
	wantAdvisory(t, Explain(fmt.Errorf("write: %w", syscall.EDQUOT), "/x"), "disk-full", "/x")
	wantAdvisory(t, Explain(&state.NotDirectory{Path: "/x", What: "CREEL_HOME"}, "/x"), "state-not-directory", "CREEL_HOME")
	wantAdvisory(t, CheckSocketPath(strings.Repeat("x", 200)), "socket-path-too-long", "xxx")
	if err := CheckSocketPath("/run/x.sock"); err != nil {
		t.Error(err)
	}
}

func TestCheckPortNamesTheHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	s := CheckPort(context.Background(), "127.0.0.1", port)
	if s.Free || s.Holder == nil || s.Holder.PID != os.Getpid() || s.Holder.Command != filepath.Base(os.Args[0]) {
		t.Errorf("CheckPort = %+v, holder %+v", s, s.Holder)
	}
	if me, err := user.Current(); err == nil && s.Holder != nil && s.Holder.User != me.Username {
		t.Errorf("user = %q, want %q", s.Holder.User, me.Username)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if s := CheckPort(context.Background(), "127.0.0.1", port); !s.Free {
		t.Errorf("CheckPort of a free port = %+v", s)
	}
	if _, ok := PortHolder(port); ok {
		t.Error("a free port has a holder")
	}
}

func TestListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if got, err := Listens(os.Getpid(), port); err != nil || !got {
		t.Errorf("Listens = %v, %v for our own listener", got, err)
	}
	if got, err := Listens(os.Getppid(), port); err != nil || got {
		t.Errorf("Listens = %v, %v for another process", got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Listens(os.Getpid(), port); err != nil || got {
		t.Errorf("Listens = %v, %v for a closed listener", got, err)
	}
}

func TestFindListener(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4506 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77001 1 0 100 0 0 10 0
   1: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000  1000        0 77002 1 0 100 0 0 10 0
`
	if got, ok := findListener(strings.NewReader(table), 0x4506); !ok || got.inode != "77001" || got.uid != "1000" {
		t.Errorf("findListener = %+v, %v", got, ok)
	}
	if _, ok := findListener(strings.NewReader(table), 0x50); ok {
		t.Error("a connection is no listener")
	}
}

func TestPortUserString(t *testing.T) {
	for want, u := range map[string]PortUser{
		`"nginx" (pid 7, user www)`: {PID: 7, Command: "nginx", User: "www"},
		"a process of user 0":       {User: "0"},
		"pid 7, user www":           {PID: 7, User: "www"},
	} {
		if got := u.String(); got != want {
			t.Errorf("String = %q, want %q", got, want)
		}
	}
	for want, u := range map[string]PortUser{
		"nginx (pid 7)":             {PID: 7, Command: "nginx"},
		`"\x1b]0;x\a" (pid 7)`:      {PID: 7, Command: "\x1b]0;x\a"},
		`"nginx (pid 1), " (pid 7)`: {PID: 7, Command: "nginx (pid 1), "},
		"a process of user 0":       {User: "0"},
	} {
		if got := u.Short(); got != want {
			t.Errorf("Short = %q, want %q", got, want)
		}
	}
}

// A zombie answers signal 0 and has ended all the same; a reused pid is another
// process.
func TestAlive(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	start, err := ProcessStartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	alive := func(start uint64) bool {
		t.Helper()
		ok, err := Alive(pid, start)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !alive(start) || alive(start+1) {
		t.Error("the process is told by pid and start time")
	}
	p, err := Lookup(pid)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := BeganBefore(p, time.Now()); err != nil || !now {
		t.Errorf("BeganBefore(now) = %v, %v", now, err)
	}
	if early, err := BeganBefore(p, time.Now().Add(-time.Hour)); err != nil || early {
		t.Errorf("BeganBefore(an hour ago) = %v, %v", early, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for alive(start) { // ended, not waited for
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("the process does not end")
		}
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the zombie is gone already: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Lookup(pid); !errors.Is(err, ErrNoProcess) {
		t.Errorf("Lookup = %v, want ErrNoProcess", err)
	}
	for _, pid := range []int{0, -1} {
		if ok, err := Alive(pid, 0); ok || err != nil {
			t.Errorf("Alive(%d) = %v, %v", pid, ok, err)
		}
	}
}

func TestExecutablesHoldsOurs(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Executables()
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range all {
		if exe == me {
			return
		}
	}
	t.Errorf("%s is not among %d executables", me, len(all))
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("7 (a) b) S) Z " + strings.Repeat("1 ", 18) + "42 0"))
	f.Add([]byte("7 ("))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseStat(b)
		if err == nil && p.State == 0 {
			t.Errorf("parsed %+v of %q", p, b)
		}
	})
}

func TestParseStatWithAnyName(t *testing.T) {
	p, err := parseStat([]byte("7 (a) b) S) Z " + strings.Repeat("1 ", 18) + "42 0"))
	if err != nil || p != (Process{PID: 7, State: 'Z', Start: 42, Session: 1}) || !p.Gone() {
		t.Errorf("parseStat = %+v, %v", p, err)
	}
}

func FuzzFindListener(f *testing.F) {
	f.Add("0: 0100007F:4506 00000000:0000 0A a b c 1000 d 77001", 0x4506)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, table string, port int) {
		if l, ok := findListener(io.LimitReader(strings.NewReader(table), 1<<16), port); ok && (l.inode == "" || !strings.Contains(table, l.inode)) {
			t.Errorf("inode %q is not in the table", l.inode)
		}
	})
}

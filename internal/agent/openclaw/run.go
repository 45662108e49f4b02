package openclaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"creel/internal/agent"
	"creel/internal/credential"
	"creel/internal/state"
)

// The exit codes of Main, as a shell has them where it knows some.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitCannot   = 126
	exitNotFound = 127
)

// tokenVariable holds the token. OpenClaw reads it in its configuration; what it
// starts has no business with it.
const tokenVariable = "CREEL_DASHBOARD_TOKEN"

// Process is what Main needs of the process that it is.
type Process struct {
	Environ []string
	Log     io.Writer
	// Exec replaces the process; it returns only when it could not.
	Exec func(path string, argv, environ []string) error
}

// This is the process that runs.
func This(log io.Writer) Process { return Process{os.Environ(), log, syscall.Exec} }

// Main runs inside a sandbox: it writes the access of the page into OpenClaw's
// configuration and becomes "PROGRAM gateway run". It returns an exit code when it
// cannot. It logs plain lines and never a token.
func Main(program []string, p Process) int {
	getenv := func(name string) string { return lookup(p.Environ, name) }
	fail := func(code int, format string, args ...any) int {
		fmt.Fprintf(p.Log, "openclaw: "+format+"\n", args...)
		return code
	}
	a, err := access(getenv)
	if err != nil {
		return fail(exitUsage, "read environment: %v", err)
	}
	if len(program) == 0 {
		return fail(exitUsage, "no program is named")
	}
	path, err := find(program[0], getenv("PATH"))
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return fail(exitNotFound, "%s is not in the sandbox: install it where the sandbox sees it (/usr, /opt or the workspace), or name it: creel onboard --agent openclaw -- PROGRAM", program[0])
	case err != nil:
		return fail(exitCannot, "%s cannot be run: %v", program[0], err)
	}
	if err := configure(getenv, a, p.Log); err != nil {
		return fail(exitFailed, "%v", err)
	}
	environ := slices.DeleteFunc(slices.Clone(p.Environ), func(e string) bool { return strings.HasPrefix(e, tokenVariable+"=") })
	err = p.Exec(path, append(slices.Clone(program), "gateway", "run"), environ)
	return fail(exitCannot, "run %s: %v", path, err)
}

// access is what the environment says of the page.
func access(getenv func(string) string) (Access, error) {
	a := Access{Port: agent.DefaultPort, Token: credential.NewSecret(getenv(tokenVariable)), Relay: getenv("OPENAI_BASE_URL")}
	if a.Token.Empty() {
		return a, errors.New(tokenVariable + " is not set")
	}
	if text := getenv("CREEL_AGENT_PORT"); text != "" {
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return a, fmt.Errorf("CREEL_AGENT_PORT=%q is not a number from 1 to 65535", text)
		}
		a.Port = port
	}
	if text := getenv("CREEL_DASHBOARD_ORIGINS"); text != "" {
		a.Origins = strings.Split(text, ",")
	}
	return a, nil
}

// find is the program as a shell inside would find it.
func find(program, path string) (string, error) {
	if strings.ContainsRune(program, '/') {
		return program, runnable(program)
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if candidate := filepath.Join(dir, program); runnable(candidate) == nil {
			return candidate, nil
		}
	}
	return "", exec.ErrNotFound
}

func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir() || info.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}

// configure brings the configuration up to date.
func configure(getenv func(string) string, a Access, log io.Writer) error {
	home := getenv("HOME")
	if home == "" {
		return errors.New("HOME is not set")
	}
	path := getenv("OPENCLAW_CONFIG_PATH")
	if path == "" {
		path = filepath.Join(home, ".openclaw", "openclaw.json")
	}
	// The file may be a link into the workspace; what it points to is replaced then.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	before, err := readSmall(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read its configuration: %w", err)
	}
	noted := filepath.Join(home, ".creel", "openclaw-origins.json")
	after, err := Merge(before, a, originsIn(noted))
	if err != nil {
		return fmt.Errorf("write access into %s: %w", path, err)
	}
	// Noted before and after: an origin that is noted and not there is nothing, one
	// that is there and not noted would stay for ever.
	earlier := originsIn(noted)
	if err := note(noted, earlier, append(slices.Clone(earlier), a.Origins...)); err != nil {
		return err
	}
	if string(after) != string(before) {
		if err := write(path, after); err != nil {
			return err
		}
		fmt.Fprintf(log, "openclaw: the access of its page is in %s\n", path)
	}
	return note(noted, originsIn(noted), a.Origins)
}

// note records which origins were put in.
func note(path string, have, want []string) error {
	want = slices.Compact(slices.Sorted(slices.Values(want)))
	if slices.Equal(have, want) {
		return nil
	}
	text, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("note origins: %w", err)
	}
	return write(path, append(text, '\n'))
}

func write(path string, content []byte) error {
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if err := state.WriteFile(path, content, state.FileMode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// maxConfig is the largest configuration that is read, in bytes.
const maxConfig = 4 << 20

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // a pipe would never end
		err = fmt.Errorf("%s is no file", path)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(content) > maxConfig {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxConfig)
	}
	return content, err
}

// originsIn are those that were put in earlier. A note that is lost or damaged
// leaves origins in the configuration, which are then its owner's.
func originsIn(path string) []string {
	content, err := readSmall(path)
	var origins []string
	if err != nil || json.Unmarshal(content, &origins) != nil {
		return nil
	}
	return origins
}

func lookup(environ []string, name string) string {
	value := ""
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

package engineenv

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

const requestLimit = 30 * time.Second

// Image is the image that Run makes containers of: a static busybox with the
// names of its programs in /bin, and an empty /tmp.
const Image = "creel-test:latest"

// Spec is a container to be run.
type Spec struct {
	Name string
	Args []string // the main program; it gets no signal but SIGKILL if it handles none
	Env  []string
	// Binds are "directory:place" or "file:place", with ":ro" to be read only.
	Binds []string
	// HostNetwork: it shares the machine's network. By default it has none.
	HostNetwork bool
	// Published is recorded as what the container's TCP ports are on the machine.
	// Without networks of its own the engine does nothing about it.
	Published map[int]int
	Terminal  bool
	Memory    int64 // bytes that it may use; 0 is any
}

// Container is a container that was run.
type Container struct {
	Name   string
	engine *Engine
}

// Run makes a container and starts it. It is removed when the test ends.
func (e *Engine) Run(t testing.TB, s Spec) *Container {
	t.Helper()
	c := e.Keep(t, s)
	t.Cleanup(func() { c.Remove(t) })
	return c
}

// Keep is Run for a container that other tests use as well: it goes with the
// engine.
func (e *Engine) Keep(t testing.TB, s Spec) *Container {
	t.Helper()
	e.importImage(t)
	network := "none"
	if s.HostNetwork {
		network = "host"
	}
	ports := map[string]any{}
	for inside, port := range s.Published {
		ports[fmt.Sprintf("%d/tcp", inside)] = []map[string]string{{"HostIp": "127.0.0.1", "HostPort": strconv.Itoa(port)}}
	}
	e.Must(t, "POST", "/containers/create?name="+s.Name, map[string]any{
		"Image": Image, "Cmd": s.Args, "Env": append([]string{"PATH=/usr/local/bin:/bin"}, s.Env...), "Tty": s.Terminal,
		"HostConfig": map[string]any{"NetworkMode": network, "Binds": s.Binds, "Init": false, "PortBindings": ports, "Memory": s.Memory}})
	c := &Container{Name: s.Name, engine: e}
	c.Start(t)
	return c
}

func (c *Container) act(t testing.TB, verb string) {
	t.Helper()
	c.engine.Must(t, "POST", "/containers/"+c.Name+"/"+verb, nil)
}

// Start starts a stopped container.
func (c *Container) Start(t testing.TB) { t.Helper(); c.act(t, "start") }

// Pause freezes every process inside; Unpause lets them go on.
func (c *Container) Pause(t testing.TB) { t.Helper(); c.act(t, "pause") }

// Unpause is the end of Pause.
func (c *Container) Unpause(t testing.TB) { t.Helper(); c.act(t, "unpause") }

// Kill ends every process inside and returns when they have ended.
func (c *Container) Kill(t testing.TB) { t.Helper(); c.act(t, "stop?t=0") }

// Remove removes the container whatever it does. One that is gone is no fault.
func (c *Container) Remove(t testing.TB) {
	t.Helper()
	if status, answer := c.engine.Do(t, "DELETE", "/containers/"+c.Name+"?force=1&v=1", nil); status/100 != 2 && status != http.StatusNotFound {
		t.Errorf("remove container %s: status %d: %s", c.Name, status, answer)
	}
}

// Do sends a request to the engine and returns the answer's status and body. body
// is nil, an io.Reader sent as it is, or what is marshalled to JSON.
func (e *Engine) Do(t testing.TB, method, path string, body any) (status int, answer []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	status, answer, err := e.Request(ctx, method, path, body)
	if err != nil {
		t.Fatalf("%v\n%s", err, e.daemon.tail())
	}
	return status, answer
}

// Must is Do for what has to succeed.
func (e *Engine) Must(t testing.TB, method, path string, body any) []byte {
	t.Helper()
	status, answer := e.Do(t, method, path, body)
	if status/100 != 2 && status != http.StatusNotModified {
		t.Fatalf("%s %s: status %d: %s", method, path, status, answer)
	}
	return answer
}

// Request is Do without a test.
func (e *Engine) Request(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	content, isReader := body.(io.Reader)
	if !isReader && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine/v1.41"+path, content)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if isReader {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (e *Engine) importImage(t testing.TB) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.imported {
		return
	}
	root, err := rootFiles()
	if err != nil {
		t.Fatal(err)
	}
	answer := e.Must(t, "POST", "/images/create?fromSrc=-&repo=creel-test&tag=latest", bytes.NewReader(root))
	if bytes.Contains(answer, []byte(`"error"`)) {
		t.Fatalf("import an image: %s", answer)
	}
	e.imported = true
}

// rootFiles is the image's file system as a tar file.
func rootFiles() ([]byte, error) {
	shell, err := busybox()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(shell)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin/", "etc/", "tmp/", "usr/local/bin/", "root/"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}))
	}
	err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}))
	_, written := w.Write(program)
	err = errors.Join(err, written)
	for _, name := range []string{"sh", "cat", "echo", "head", "ls", "rm", "sleep", "tail", "touch", "true", "false", "yes"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}))
	}
	return b.Bytes(), errors.Join(err, w.Close())
}

// busybox finds one that runs where there is no C library.
func busybox() (string, error) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		libraries, err := f.ImportedLibraries()
		_ = f.Close()
		if err == nil && len(libraries) == 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no static busybox: apt-get install busybox-static")
}

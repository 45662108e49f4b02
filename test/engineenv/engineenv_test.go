package engineenv_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"creel/test/engineenv"
)

// TestNothingIsLeft: an engine takes everything with it, also what it started
// and nobody removed.
func TestNothingIsLeft(t *testing.T) {
	for _, kind := range []engineenv.Kind{engineenv.Docker, engineenv.Podman} {
		t.Run(string(kind), func(t *testing.T) {
			e := engineenv.Start(t, kind)
			t.Run("container", func(t *testing.T) {
				c := e.Run(t, engineenv.Spec{Name: "left", Args: []string{"sleep", "4711"}, HostNetwork: true})
				c.Pause(t)
				c.Unpause(t)
				if status, answer := e.Do(t, "GET", "/containers/left/json", nil); status != http.StatusOK || !bytes.Contains(answer, []byte(`"running"`)) {
					t.Errorf("status %d: %s", status, answer)
				}
				c.Kill(t)
				c.Start(t)
				c.Remove(t)
			})
			// Not by Run, which would remove it.
			e.Must(t, "POST", "/containers/create?name=left", map[string]any{"Image": engineenv.Image, "Cmd": []string{"sleep", "4711"},
				"HostConfig": map[string]any{"NetworkMode": "none"}})
			e.Must(t, "POST", "/containers/left/start", nil)
			// An engine says that a container was started when its process may become
			// the program, which is a little before it has.
			var sleeping []string
			late, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
			defer tick.Stop()
			for sleeping = asleep(e); len(sleeping) != 1; sleeping = asleep(e) {
				select {
				case <-tick.C:
				case <-late:
					t.Fatalf("processes of the container: %q", sleeping)
				}
			}
			e.Stop()
			for _, path := range append(sleeping, filepath.Dir(e.Socket)) {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("%s is left: %v", path, err)
				}
			}
		})
	}
}

// asleep are the places in /proc of the container's main process.
func asleep(e *engineenv.Engine) (found []string) {
	for _, pid := range e.Processes() {
		dir := "/proc/" + strconv.Itoa(pid)
		if line, _ := os.ReadFile(dir + "/cmdline"); bytes.HasPrefix(line, []byte("sleep\x004711")) {
			found = append(found, dir)
		}
	}
	return found
}

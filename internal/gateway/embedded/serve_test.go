package embedded

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/state"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// In the foreground, as under a service manager: nobody launches it, the log also
// goes to the terminal, the service manager is told, and the end of the context
// ends it.
func TestServeInTheForeground(t *testing.T) {
	w := newWorld(t, "good")
	notified := serviceManager(t, w)
	var terminal lockedBuffer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ServeConfig{Gateway: w.g, Server: fakeServer("good"), Foreground: &terminal})
	}()
	notified.expect("STATUS=taking over sandboxes")
	if said := notified.expect("READY=1\n"); !strings.HasPrefix(said, "READY=1\nSTATUS=serves https://127.0.0.1:") {
		t.Errorf("said %q", said)
	}
	if o := w.r.Observe(context.Background()); o.Verdict != health.OK || o.Identity.PID != os.Getpid() {
		t.Errorf("Observe = %v %s", o.Verdict, o.Message)
	}
	// A second daemon of the same gateway is refused and harms nothing.
	err := Serve(context.Background(), ServeConfig{Gateway: w.g, Server: fakeServer("good"), Foreground: io.Discard})
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-already-running" {
		t.Errorf("a second Serve = %v", err)
	}
	notified.expect("STATUS=gateway creel runs already")
	cancel()
	notified.expect("STOPPING=1\nSTATUS=ending; sandboxes go on")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if o := w.r.Observe(context.Background()); !o.Absent {
		t.Errorf("afterwards: %s", o.Message)
	}
	if _, err := os.Stat(w.g.Marker()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the marker is still there: %v", err)
	}
	file, err := os.ReadFile(w.g.Log())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gateway starts", "gateway is ready", "gateway ended"} {
		if !strings.Contains(terminal.String(), want) || !bytes.Contains(file, []byte(want)) {
			t.Errorf("%q is not both on the terminal and in the log", want)
		}
	}
}

// A daemon that nobody could find does not go on serving.
func TestServeWithoutMarkerEnds(t *testing.T) {
	w := newWorld(t, "good")
	if err := os.MkdirAll(filepath.Join(w.g.File(state.EndpointFile), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := Serve(context.Background(), ServeConfig{Gateway: w.g, Server: fakeServer("good"), Foreground: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "record the running gateway") {
		t.Errorf("Serve = %v", err)
	}
	if o := w.r.Observe(context.Background()); !o.Absent {
		t.Errorf("afterwards: %s", o.Message)
	}
}

func TestServeThatEndsBeforeItIsReady(t *testing.T) {
	w := newWorld(t, "good")
	err := Serve(context.Background(), ServeConfig{Gateway: w.g, Foreground: io.Discard,
		Server: func(context.Context, ServerInput, func(Ready)) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("Serve = %v", err)
	}
}

func TestWantedPort(t *testing.T) {
	for _, c := range []struct {
		name     string
		cfg      ServeConfig
		launch   *launcher
		recorded int
		port     int
		explicit bool
	}{
		{"nothing said", ServeConfig{}, nil, 0, DefaultPort, false},
		{"recorded", ServeConfig{}, nil, 4711, 4711, false},
		{"configured", ServeConfig{Port: 4712, PortExplicit: true}, nil, 4711, 4712, true},
		{"the launcher says", ServeConfig{Port: 4712}, &launcher{hello: hello{Port: 4713, PortExplicit: true}}, 4711, 4713, true},
		{"the launcher says nothing", ServeConfig{}, &launcher{}, 4711, 4711, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Gateway = logWorld(t, "").cfg.Gateway
			if c.recorded != 0 {
				if err := launch.WriteEndpoint(c.cfg.Gateway, "127.0.0.1", c.recorded); err != nil {
					t.Fatal(err)
				}
			}
			if port, explicit := wantedPort(c.cfg, c.launch); port != c.port || explicit != c.explicit {
				t.Errorf("wantedPort = %d, %v; want %d, %v", port, explicit, c.port, c.explicit)
			}
		})
	}
}

func TestParseDescriptors(t *testing.T) {
	if down, up, err := parseDescriptors(handshakeDescriptors); err != nil || down != 3 || up != 4 {
		t.Errorf("parseDescriptors = %d, %d, %v", down, up, err)
	}
	for _, bad := range []string{"", "3", "3,", "3,3", "0,1", "a,b", "3,4,5", "-3,4"} {
		if _, _, err := parseDescriptors(bad); err == nil {
			t.Errorf("%q names two descriptors", bad)
		}
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte(`{"nonce":"n","instance_id":"i","pid":7,"endpoint":{"host":"127.0.0.1","port":1}}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("no line"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		if readLine(bytes.NewReader(b), &a) != nil {
			return
		}
		if a.check("n", 7) == nil && a.Error == "" && (a.PID != 7 || a.Endpoint.check() != nil || a.InstanceID == "") {
			t.Errorf("believed %+v", a)
		}
	})
}

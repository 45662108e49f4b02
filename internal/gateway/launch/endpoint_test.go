package launch

import (
	"os"
	"testing"
	"time"

	"creel/internal/gateway"
	"creel/internal/state"
)

func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	g := state.Roots{Config: dir + "/config", State: dir + "/state", Run: dir + "/run"}.Gateway("claws")
	if err := state.MkdirAll(g.Dir()); err != nil {
		t.Fatal(err)
	}
	if e, err := ReadEndpoint(g); !os.IsNotExist(err) || e != (gateway.Endpoint{}) {
		t.Errorf("nothing recorded: %+v, %v", e, err)
	}
	want, file := gateway.Endpoint{Host: "127.0.0.1", Port: 4711}, g.File(state.EndpointFile)
	if err := WriteEndpoint(g, want.Host, want.Port); err != nil {
		t.Fatal(err)
	}
	if e, err := ReadEndpoint(g); err != nil || e != want {
		t.Errorf("%+v, %v", e, err)
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if err := WriteEndpoint(g, want.Host, want.Port); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || !fi.ModTime().Equal(old) {
		t.Errorf("the same was written again: %v, %v", fi.ModTime(), err)
	}
	for _, bad := range []string{"", "{", `{"version":1}`, `{"version":1,"host":"127.0.0.1","port":0}`, `{"version":1,"host":"127.0.0.1","port":65536}`, `{"version":1,"host":"192.0.2.1","port":80}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := ReadEndpoint(g); err == nil || e != (gateway.Endpoint{}) {
			t.Errorf("%q is read as %+v", bad, e)
		}
	}
}

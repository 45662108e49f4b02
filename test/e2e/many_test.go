package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type manyGateways struct {
	Verdict  string `json:"verdict"`
	Message  string `json:"message"`
	Elapsed  int    `json:"elapsed_us"`
	Gateways []struct {
		Gateway  string `json:"gateway"`
		Runtime  string `json:"runtime"`
		Verdict  string `json:"verdict"`
		Reason   string `json:"reason"`
		Endpoint string `json:"endpoint"`
	} `json:"gateways"`
}

// wantOf writes the desired state of a gateway by its name.
func (h *home) wantOf(name, settings string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "config", "gateways", name+".yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("apiVersion: creel/v1alpha1\nkind: Gateway\nname: "+name+"\n"+settings), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// mute is a gateway that accepts connections and never answers. accepted yields one
// value for each.
func mute(t *testing.T) (endpoint string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	var kept []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			kept = append(kept, c)
			came <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range kept {
			_ = c.Close()
		}
	})
	return "http://" + l.Addr().String(), came
}

// testManyGateways: twenty gateways are asked in the time of one, also when one of
// them hangs, and one that cannot even be read hides none of the others.
func testManyGateways(t *testing.T) {
	owner := newGatewayHome(t, "gateway: {tls: plaintext}\n", "version=0.0.88")
	owner.must(0, "gateway", "start")
	s, _ := owner.status()

	h := newHome(t)
	if r := h.run("gateway", "status", "--all"); r.code != 1 || !strings.Contains(r.stdout, "there is no gateway here") {
		t.Errorf("without any: exit %d\n%s", r.code, r.stdout)
	}
	h.must(0, "gateway", "secrets", "repair")
	h.must(0, "gateway", "start")
	for n := range 18 {
		h.wantOf(fmt.Sprintf("healthy-%02d", n), "runtime: external\ngateway: {endpoint: \""+s.Endpoint+"\"}\n")
	}
	all := func(code int) manyGateways {
		t.Helper()
		r := h.must(code, "gateway", "status", "--all", "--json")
		return decode[manyGateways](t, r)
	}
	good := all(3) // plaintext is a caveat
	if len(good.Gateways) != 19 || good.Verdict != "degraded" || !strings.Contains(good.Message, "19 gateways, 18 degraded") {
		t.Errorf("%+v", good)
	}

	const probe = time.Second
	h.env = append(h.env, "CREEL_BUDGET_PROBE="+probe.String())
	endpoint, accepted := mute(t)
	h.wantOf("hangs", "runtime: external\ngateway: {endpoint: \""+endpoint+"\"}\n")
	var got manyGateways
	fastest(t, "twenty gateways, of which one hangs, with a probe budget of 1s", probe+100*time.Millisecond, func() time.Duration {
		got = all(1)
		return time.Duration(got.Elapsed) * time.Microsecond
	})
	t.Logf("nineteen that answer: %s", time.Duration(good.Elapsed)*time.Microsecond)
	select {
	case <-accepted:
	default:
		t.Fatal("the gateway that hangs was never reached")
	}
	if took := time.Duration(got.Elapsed) * time.Microsecond; took < probe/2 {
		t.Errorf("the one that hangs was given up after %s", took)
	}
	if len(got.Gateways) != 20 || got.Verdict != "failed" || !strings.Contains(got.Message, "hangs: ") {
		t.Errorf("%+v", got)
	}
	for _, g := range got.Gateways {
		want := map[string]string{"creel": "ok", "hangs": "failed"}[g.Gateway]
		if want == "" {
			want = "degraded"
		}
		if g.Verdict != want || g.Gateway == "hangs" && g.Reason != "gateway-hung" {
			t.Errorf("%+v, want %s", g, want)
		}
	}

	// A desired state that is no YAML is one gateway's problem.
	h.wantOf("broken", "runtime: [external\n")
	got = all(1)
	if len(got.Gateways) != 21 || got.Gateways[0].Gateway != "broken" || got.Gateways[0].Verdict != "unknown" || got.Gateways[0].Reason != "desired-invalid" {
		t.Errorf("%+v", got)
	}
	r := h.must(1, "gateway", "status", "--all")
	first, table, _ := strings.Cut(r.stdout, "\n")
	if !strings.Contains(first, "failed: 21 gateways, 1 failed, 1 unknown, 18 degraded") {
		t.Errorf("the first line is %q", first)
	}
	if header, _, _ := strings.Cut(table, "\n"); strings.Join(strings.Fields(header), " ") != "GATEWAY RUNTIME VERDICT ENDPOINT REASON" {
		t.Errorf("the header is %q", header)
	}
	h.must(2, "gateway", "status", "--all", "--gateway", "creel")

	// Every layer of every gateway.
	r = h.run("status", "--all", "--json")
	whole := decode[manyGateways](t, r)
	if r.code != 1 || len(whole.Gateways) != 21 || whole.Verdict != "failed" {
		t.Errorf("status --all: exit %d\n%s", r.code, r.stdout)
	}
	for _, c := range []struct {
		remove, verdict string
		code            int
	}{{"hangs", "unknown", 4}, {"broken", "failed", 1}} {
		if err := os.Remove(filepath.Join(h.dir, "config", "gateways", c.remove+".yaml")); err != nil {
			t.Fatal(err)
		}
		if c.remove == "broken" {
			h.must(0, "gateway", "stop")
		}
		if got := all(c.code); got.Verdict != c.verdict {
			t.Errorf("without %s: %+v", c.remove, got)
		}
	}
}

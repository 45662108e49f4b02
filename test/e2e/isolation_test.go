package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/host"
)

// testSideBySide: two gateways in one home, one of each kind. Whatever is done to the
// one, the other's files keep their content and its processes go on.
func testSideBySide(t *testing.T) {
	for _, c := range []struct{ stays, isActedOn string }{{"creel", "other"}, {"other", "creel"}} {
		t.Run(c.stays+" stays", func(t *testing.T) {
			h := newGatewayHome(t, "", "version=0.0.88") // "creel" is an openshell-gateway
			h.wantOf("other", "runtime: embedded\n")
			for _, name := range []string{"creel", "other"} {
				// One that openshell runs tells only the phase of a sandbox: degraded.
				code := map[string]int{"creel": 3, "other": 0}[name]
				h.must(code, "onboard", "--gateway", name, "--yes", "--non-interactive", "--provider", "none", "--agent", "command",
					"--name", "box-of-"+name, "--", "sleep", "100000")
			}
			box := "box-of-" + c.isActedOn
			before := h.picture(c.stays)
			if len(before) < 8 {
				t.Fatalf("the picture of gateway %s is empty: %v", c.stays, before)
			}
			for _, args := range [][]string{
				{"gateway", "status"}, {"gateway", "stop"}, {"gateway", "start"}, {"gateway", "restart"}, {"stop", box}, {"start", box},
				{"gateway", "secrets", "repair"}, {"gateway", "secrets", "rotate", "--yes"}, {"repair"}, {"destroy", box, "--yes"},
				{"gateway", "stop"}, {"uninstall", "--yes"}, {"gateway", "status"},
			} {
				r := h.run(append(args, "--gateway", c.isActedOn)...)
				if r.code == 2 {
					t.Errorf("%q is no command: %s", args, r.stderr)
				}
				if d := cmp.Diff(before, h.picture(c.stays)); d != "" {
					t.Errorf("%q of gateway %s changed gateway %s:\n%s", args, c.isActedOn, c.stays, d)
					before = h.picture(c.stays)
				}
			}
			if _, err := os.Lstat(filepath.Join(h.dir, "state", "gateways", c.isActedOn)); err == nil {
				t.Errorf("gateway %s is still there: nothing was shown", c.isActedOn)
			}
			if r := h.run("status", "--gateway", c.stays); r.code != map[string]int{"creel": 3, "other": 0}[c.stays] {
				t.Errorf("gateway %s afterwards: exit %d\n%s", c.stays, r.code, r.stdout)
			}
			h.must(0, "uninstall", "--yes", "--gateway", c.stays)
		})
	}
}

// picture is everything of a gateway: each file's content by its hash, and each
// process by its start. Logs and the working memory of the database are left out: the
// gateway itself writes them.
func (h *gatewayHome) picture(name string) map[string]string {
	h.t.Helper()
	picture := map[string]string{}
	for _, root := range []string{"state/gateways/" + name, "run/gateways/" + name, "config/gateways/" + name + ".yaml", "config/openshell/gateways/" + name} {
		err := filepath.WalkDir(filepath.Join(h.dir, root), func(path string, d os.DirEntry, err error) error {
			if err != nil || strings.HasSuffix(path, ".log") || strings.Contains(path, ".db-") || strings.HasSuffix(path, ".reached") {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			what := info.Mode().String()
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				what += fmt.Sprintf(" %x", sha256.Sum256(content))
			}
			picture[strings.TrimPrefix(path, h.dir)] = what
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			h.t.Fatal(err)
		}
	}
	pids := []int{decode[gatewayStatus](h.t, h.run("gateway", "status", "--json", "--gateway", name)).PID}
	for _, s := range decode[listDocument](h.t, h.run("list", "--json", "--gateway", name)).Sandboxes {
		pids = append(pids, s.PID)
	}
	for _, p := range h.processes() {
		if strings.Contains(p.command, "/state/gateways/"+name+"/") {
			pids = append(pids, p.pid)
		}
	}
	for _, pid := range pids {
		if p, err := host.Lookup(pid); pid > 1 && err == nil && !p.Gone() {
			picture["process "+strconv.Itoa(pid)] = strconv.FormatUint(p.Start, 10)
		}
	}
	return picture
}

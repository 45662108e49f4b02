package e2e

import (
	"testing"
)

func testGatewayKubernetes(t *testing.T) {
	c := clusters.Get(t)
	h := newHome(t)
	g := newGatewayIn(t, c)
	n := newPodNode(t, c, g.ns, "version=0.0.36")
	r := h.run("onboard", "--yes", "--gateway-only", "--runtime", "kubernetes", "--kubeconfig", c.AdminKubeconfig, "--namespace", g.ns)
	t.Logf("exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
	for _, a := range [][]string{{"status"}, {"gateway", "status"}, {"gateway", "status", "--json"}, {"doctor"}, {"gateway", "logs"}, {"gateway", "stop"}, {"gateway", "status"}, {"gateway", "start"}, {"gateway", "restart"}, {"status"}, {"uninstall", "--plan"}} {
		r = h.run(a...)
		t.Logf("%q exit %d took %s\n%s\n%s", a, r.code, r.took, r.stdout, r.stderr)
	}
	t.Log(h.logs(), n.podUID())
}

package confine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

func TestChoose(t *testing.T) {
	all := Support{LandlockABI: 7}
	noNamespaces := Support{Namespaces: "namespaces: not permitted", LandlockABI: 4}
	old := Support{Namespaces: "namespaces: not permitted", LandlockABI: 3}
	noLandlock := Support{Landlock: "it is off"}
	noSeccomp := Support{LandlockABI: 7, Seccomp: "not built in"}
	const auto, ns, ll, un = sandbox.TierAuto, sandbox.TierNamespaces, sandbox.TierLandlock, sandbox.TierUnconfined
	for name, c := range map[string]struct {
		wanted   sandbox.Tier
		support  Support
		accepted bool
		want     sandbox.Tier
		reason   string // part of
		advisory string
	}{
		"everything works":              {auto, all, false, ns, "", ""},
		"empty is auto":                 {"", all, false, ns, "", ""},
		"no namespaces":                 {auto, noNamespaces, false, ll, "not permitted", ""},
		"Landlock too old for a tier":   {auto, old, false, "", "", "confinement-unavailable"},
		"namespaces need Landlock":      {auto, noLandlock, false, "", "", "confinement-unavailable"},
		"both need seccomp":             {auto, noSeccomp, false, "", "", "confinement-unavailable"},
		"consent forces nothing":        {auto, all, true, ns, "", ""},
		"consent prefers the stronger":  {auto, noNamespaces, true, ll, "not permitted", ""},
		"consent, nothing works":        {auto, noLandlock, true, un, "it is off", ""},
		"consent, nothing known":        {"", Support{}, true, un, "accepted", ""},
		"consent, a tier was named":     {ns, noNamespaces, true, "", "", "confinement-unavailable"},
		"consent, landlock was named":   {ll, old, true, "", "", "confinement-unavailable"},
		"namespaces wanted":             {ns, all, false, ns, "", ""},
		"namespaces wanted, not there":  {ns, noNamespaces, false, "", "", "confinement-unavailable"},
		"landlock wanted":               {ll, all, false, ll, "asked for", ""},
		"landlock wanted, too old":      {ll, old, false, "", "", "confinement-unavailable"},
		"unconfined, not accepted":      {un, all, false, "", "", "confinement-risk"},
		"unconfined, accepted":          {un, all, true, un, "asked for and accepted", ""},
		"nonsense":                      {"castle", all, true, "", "", "confinement-unavailable"},
		"nothing known is not a yes":    {auto, Support{}, false, "", "", "confinement-unavailable"},
		"acceptance does not weaken ns": {ns, all, true, ns, "", ""},
	} {
		tier, reason, err := Choose(c.wanted, c.support, c.accepted)
		if tier != c.want || !strings.Contains(reason, c.reason) || (c.want == ns && reason != "") {
			t.Errorf("%s: %q because %q", name, tier, reason)
		}
		got := ""
		if p, ok := advisory.Of(err); ok {
			got = p.ID
			if _, known := advisory.Lookup(p.ID); !known {
				t.Errorf("%s: advisory %s is not registered", name, p.ID)
			}
		}
		if got != c.advisory || (err == nil) != (c.advisory == "") {
			t.Errorf("%s: %v with advisory %q, want %q", name, err, got, c.advisory)
		}
	}
}

func TestCause(t *testing.T) {
	for _, c := range []struct {
		problem, max, clone, armor string
		filtered, root             bool
		want                       string
	}{
		{"x", "0", "", "", false, false, "user.max_user_namespaces"},
		{"x", "9", "0", "", false, false, "unprivileged_userns_clone"},
		{"x", "9", "0", "1", false, true, ""},
		{"x", "9", "1", "1", false, false, "AppArmor"},
		{"mount /proc: operation not permitted", "9", "", "", true, true, "masked"},
		{"x", "9", "", "", true, true, "seccomp filter"},
		{"x", "", "", "", false, false, ""},
	} {
		got := cause(c.problem, c.max, c.clone, c.armor, c.filtered, c.root)
		if !strings.Contains(got, c.want) || (c.want == "" && got != "") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestGrants(t *testing.T) {
	links := map[string]string{"/data": "/data", "/data/in": "/data/in", "/srv": "/srv", "/home/a/work": "/home/a/work",
		"/home/a": "/home/a", "/link": "/home/a/.ssh", "/state": "/state", "/state/x": "/state/x", "/": "/", "/sys": "/sys",
		"/run/docker.sock": "/run/docker.sock", "/etc/app.conf": "/etc/app.conf", "/usr/share": "/usr/share", "/home/a/.ssh": "/home/a/.ssh",
		"/dev/kvm": "/dev/kvm", "/home": "/home", "/run-away": "/run-away", "/usr/local/cache": "/usr/local/cache"}
	resolve := func(p string) (string, error) { return links[p], nil }
	for name, c := range map[string]struct {
		readOnly, readWrite []string
		want                []grant
		refused             string
	}{
		"the usual lists add nothing": {readOnly: []string{"/usr", "/lib", "/proc", "/dev/urandom", "/etc", "/usr/share"},
			readWrite: []string{"/sandbox", "/sandbox/x", "/tmp", "/dev/null"}},
		"what is absent is left out": {readOnly: []string{"/app"}},
		"sorted, with rights": {readOnly: []string{"/srv", "/data"}, readWrite: []string{"/data/in"},
			want: []grant{{"/data", "/data", false}, {"/data/in", "/data/in", true}, {"/srv", "/srv", false}}},
		"below a home, asked for by name":    {readWrite: []string{"/home/a/work"}, want: []grant{{"/home/a/work", "/home/a/work", true}}},
		"a file of etc":                      {readOnly: []string{"/etc/app.conf"}, want: []grant{{"/etc/app.conf", "/etc/app.conf", false}}},
		"a similar name is another":          {readOnly: []string{"/run-away"}, want: []grant{{"/run-away", "/run-away", false}}},
		"writable inside a system directory": {readWrite: []string{"/usr/local/cache"}, want: []grant{{"/usr/local/cache", "/usr/local/cache", true}}},
		"a home":                             {readOnly: []string{"/home/a"}, refused: "/home/a"},
		"above a home":                       {readOnly: []string{"/home"}, refused: "/home"},
		"keys of a home":                     {readOnly: []string{"/home/a/.ssh"}, refused: "hidden entry"},
		"a link to keys":                     {readOnly: []string{"/link"}, refused: "hidden entry"},
		"everything":                         {readOnly: []string{"/"}, refused: "whole file system"},
		"hidden":                             {readOnly: []string{"/state"}, refused: "/state"},
		"below hidden":                       {readWrite: []string{"/state/x"}, refused: "/state"},
		"an interface":                       {readOnly: []string{"/sys"}, refused: "/sys"},
		"a daemon's socket":                  {readWrite: []string{"/run/docker.sock"}, refused: "/run"},
		"a device":                           {readWrite: []string{"/dev/kvm"}, refused: "/dev"},
		"relative":                           {readOnly: []string{"data"}, refused: "absolute"},
		"not clean":                          {readOnly: []string{"/data/../home/a"}, refused: "clean"},
	} {
		got, err := grants(c.readOnly, c.readWrite, resolve, []string{"/home", "/home/a"}, []string{"/state"})
		if c.refused != "" {
			if p, ok := advisory.Of(err); !ok || p.ID != "policy-path-refused" || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want a refusal with %q", name, err, c.refused)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func good(tier sandbox.Tier) observed {
	o := observed{Tier: tier, UID: 1000, LandlockABI: 7,
		Status: map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapAmb": "0", "CapBnd": "0"},
		Denied: map[string]string{trialFile: "no", trialConnect: "no", trialCall: "no"}, Namespaces: map[string]string{}}
	for _, n := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		o.Namespaces[n] = n + ":[2]"
	}
	return o
}

// A protection that is not observed stops the start, whichever it is.
func TestJudge(t *testing.T) {
	outside := map[string]string{"user": "user:[1]", "mnt": "mnt:[1]", "pid": "pid:[1]", "net": "net:[1]", "ipc": "ipc:[1]", "uts": "uts:[1]"}
	if c, err := judge(good(sandbox.TierNamespaces), outside, "", true); err != nil || len(c.Protections) < 12 {
		t.Fatalf("control: %+v, %v", c, err)
	}
	if _, err := judge(good(sandbox.TierLandlock), outside, "", true); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, c := range map[string]struct {
		tier  sandbox.Tier
		spoil func(*observed)
		want  string
	}{
		"shared network":      {sandbox.TierNamespaces, func(o *observed) { o.Namespaces["net"] = outside["net"] }, "network namespace"},
		"unknown user":        {sandbox.TierNamespaces, func(o *observed) { delete(o.Namespaces, "user") }, "user namespace"},
		"files are open":      {sandbox.TierNamespaces, func(o *observed) { delete(o.Denied, trialFile) }, "landlock files"},
		"network is open":     {sandbox.TierLandlock, func(o *observed) { delete(o.Denied, trialConnect) }, "landlock network"},
		"no filter":           {sandbox.TierNamespaces, func(o *observed) { o.Status["Seccomp"] = "0" }, "seccomp"},
		"filter of others":    {sandbox.TierLandlock, func(o *observed) { delete(o.Denied, trialCall) }, "seccomp"},
		"privileges":          {sandbox.TierLandlock, func(o *observed) { o.Status["NoNewPrivs"] = "0" }, "no new privileges"},
		"a capability":        {sandbox.TierNamespaces, func(o *observed) { o.Status["CapPrm"] = "0000000000200000" }, "no capabilities"},
		"bounding set":        {sandbox.TierNamespaces, func(o *observed) { o.Status["CapBnd"] = "0000000000200000" }, "bounding set"},
		"capabilities hidden": {sandbox.TierNamespaces, func(o *observed) { delete(o.Status, "CapEff") }, "no capabilities"},
	} {
		o := good(c.tier)
		c.spoil(&o)
		_, err := judge(o, outside, "", true)
		if p, ok := advisory.Of(err); !ok || p.ID != "confinement-failed" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

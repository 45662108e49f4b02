package bundle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPlanMissing(t *testing.T) {
	type flags struct{ Repair, Server, Client, Handshake, SandboxKey bool }
	cases := []struct {
		name       string
		generation Generation
		given      []string
		missing    []string
		flags      flags
		steps      []string
	}{
		{"nothing", Generation1, nil, []string{}, flags{}, []string{}},
		{"only noise", Generation1, []string{"", " ", "noise"}, []string{}, flags{}, []string{}},
		{"order, noise and white space", Generation1, []string{"openshell-client-tls", "noise", " openshell-server-tls ", ""},
			[]string{"openshell-client-tls", "openshell-server-tls"}, flags{Repair: true, Server: true, Client: true},
			[]string{ServerTLS, ServerCA, ClientTLS}},
		{"repeated", Generation1, []string{"openshell-server-tls", "openshell-server-tls\n"}, []string{"openshell-server-tls"},
			flags{Repair: true, Server: true}, []string{ServerTLS}},
		{"the CA takes the client along", Generation1, []string{"openshell-server-client-ca"}, []string{"openshell-server-client-ca"},
			flags{Repair: true, Client: true}, []string{ServerCA, ClientTLS}},
		{"the client takes the CA along", Generation1, []string{"openshell-client-tls"}, []string{"openshell-client-tls"},
			flags{Repair: true, Client: true}, []string{ServerCA, ClientTLS}},
		{"the handshake alone", Generation1, []string{"openshell-ssh-handshake"}, []string{"openshell-ssh-handshake"},
			flags{Repair: true, Handshake: true}, []string{SSHHandshake}},
		{"everything", Generation1, []string{SSHHandshake, ClientTLS, ServerCA, ServerTLS}, []string{SSHHandshake, ClientTLS, ServerCA, ServerTLS},
			flags{Repair: true, Server: true, Client: true, Handshake: true}, []string{ServerTLS, ServerCA, ClientTLS, SSHHandshake}},
		{"a leaf of generation 2 alone", Generation2, []string{"server"}, []string{"server"}, flags{Repair: true, Server: true}, []string{Server}},
		{"the CA of generation 2 takes its leaves along", Generation2, []string{"jwt", "ca"}, []string{"jwt", "ca"},
			flags{Repair: true, Server: true, Client: true, SandboxKey: true}, []string{CA, Server, Client, JWT}},
		{"names of the other generation", Generation2, []string{ServerTLS}, []string{}, flags{}, []string{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := PlanMissing(c.generation, c.given)
			if diff := cmp.Diff(c.missing, p.Missing); diff != "" {
				t.Errorf("missing:\n%s", diff)
			}
			got := flags{p.NeedsRepair, p.NeedsServerTLS, p.NeedsClientBundle, p.NeedsHandshake, p.NeedsSandboxKey}
			if got != c.flags {
				t.Errorf("flags %+v, want %+v", got, c.flags)
			}
			if diff := cmp.Diff(c.steps, stepMembers(p)); diff != "" {
				t.Errorf("steps:\n%s", diff)
			}
		})
	}
}

func stepMembers(p Plan) []string {
	members := []string{}
	for _, s := range p.Steps {
		members = append(members, s.Member)
	}
	return members
}

// TestMakePlan writes a plan as one line a step: member, flags, who is disturbed.
func TestMakePlan(t *testing.T) {
	bad := func(c Class) Finding { return Finding{Class: c} }
	auto := func(c Class) Finding { return Finding{Class: c, Automatic: true} }
	keeps := func(c Class, automatic bool) Finding { return Finding{Class: c, Automatic: automatic, KeepsKey: true} }
	const (
		clients   = " disturbs every connected client"
		gateway   = " disturbs the gateway"
		registers = " disturbs registered clients"
		sandboxes = " disturbs running sandboxes"
	)
	cases := []struct {
		name  string
		want  Requirements
		found map[string]Finding
		steps []string
	}{
		{"all good", directory(), nil, nil},
		{"expiring is left alone", directory(), map[string]Finding{Server: bad(Expiring)}, nil},
		{"a leaf from the CA that is there", directory(), map[string]Finding{Server: auto(Absent)}, []string{"server from-ca"}},
		{"an expired leaf", directory(), map[string]Finding{Client: auto(Expired)}, []string{"client from-ca" + registers}},
		{"a garbled leaf", directory(), map[string]Finding{Server: bad(Malformed)}, []string{"server consent from-ca" + gateway}},
		{"a replaced CA", directory(), map[string]Finding{CA: bad(Expired)},
			[]string{"ca consent" + clients, "server coupled consent" + gateway, "client coupled consent" + registers}},
		{"a CA that vanished", directory(), map[string]Finding{CA: auto(Absent), Server: auto(Mismatched), Client: auto(Mismatched)},
			[]string{"ca", "server" + gateway, "client" + registers}},
		{"a CA that vanished, and a leaf that is something else", directory(), map[string]Finding{CA: auto(Absent), Server: bad(Malformed)},
			[]string{"ca consent", "server consent" + gateway, "client coupled consent" + registers}},
		{"a CA certificate from its key", directory(), map[string]Finding{CA: keeps(Incomplete, true)}, []string{"ca keeps-key"}},
		{"a token key's other parts", directory(), map[string]Finding{JWT: keeps(Mismatched, false)}, []string{"jwt consent keeps-key"}},
		{"a token key", directory(), map[string]Finding{JWT: bad(Malformed)}, []string{"jwt consent" + sandboxes}},
		{"generation 1: CA vanished", generation1(), map[string]Finding{ServerCA: auto(Absent), ClientTLS: auto(Mismatched)},
			[]string{"openshell-server-client-ca", "openshell-client-tls" + registers}},
		{"generation 1: client vanished", generation1(), map[string]Finding{ClientTLS: auto(Absent)},
			[]string{"openshell-server-client-ca coupled" + clients, "openshell-client-tls"}},
		{"generation 1: client garbled", generation1(), map[string]Finding{ClientTLS: bad(Malformed)},
			[]string{"openshell-server-client-ca coupled consent" + clients, "openshell-client-tls consent" + registers}},
		{"generation 1: server garbled", generation1(), map[string]Finding{ServerTLS: bad(Malformed)},
			[]string{"openshell-server-tls consent" + gateway}},
		{"Kubernetes: client vanished", kubernetes(), map[string]Finding{Client: auto(Absent)},
			[]string{"server coupled" + gateway, "client"}},
		{"Kubernetes: token key only", kubernetes(), map[string]Finding{JWT: auto(Absent)}, []string{"jwt"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := Report{Generation: c.want.Generation, Layout: c.want.layout(), CAKey: true}
			for _, m := range c.want.members() {
				f, ok := c.found[m.name]
				if !ok {
					f.Class = OK
				}
				f.Member, f.Name = m.name, m.stored
				r.Findings = append(r.Findings, f)
			}
			p := MakePlan(r)
			var got []string
			for _, s := range p.Steps {
				line := s.Member
				if s.Coupled {
					line += " coupled"
				}
				if s.Consent {
					line += " consent"
				}
				if s.FromCA {
					line += " from-ca"
				}
				if s.KeepsKey {
					line += " keeps-key"
				}
				for _, d := range s.Disturbs {
					line += " disturbs " + strings.SplitN(d, ":", 2)[0]
				}
				got = append(got, line)
				if s.Title == "" {
					t.Errorf("%s has no title", s.Member)
				}
			}
			if diff := cmp.Diff(c.steps, got); diff != "" {
				t.Errorf("steps:\n%s", diff)
			}
		})
	}
}

func TestRenewal(t *testing.T) {
	r := Report{Generation: Generation2, Layout: Directory, CAKey: true, Findings: []Finding{
		{Member: CA, Name: CA, Class: Expiring}, {Member: Server, Name: Server, Class: Expiring},
		{Member: Client, Name: Client, Class: OK}, {Member: JWT, Name: JWT, Class: OK}}}
	p := MakeRenewal(r, RenewExpiring)
	if diff := cmp.Diff([]string{Server}, stepMembers(p)); diff != "" {
		t.Errorf("renewed:\n%s", diff)
	}
	if len(p.Consent()) != 0 {
		t.Errorf("a renewal asks for consent: %+v", p.Consent())
	}
	r.CAKey = false
	if p := MakeRenewal(r, RenewExpiring); p.NeedsRepair {
		t.Errorf("renewed without the CA's key: %+v", p.Steps)
	}
}

// TestPlanProperties holds for any report: what is bad is planned, what is good
// is planned only along with its CA, and members that go together are in the
// automatic part together or not at all.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SampledFrom([]Requirements{generation1(), directory(), kubernetes()}).Draw(t, "kind")
		r := Report{Generation: want.Generation, Layout: want.layout(), CAKey: rapid.Bool().Draw(t, "key at hand")}
		for _, m := range want.members() {
			f := Finding{Member: m.name, Name: m.stored, Class: rapid.SampledFrom(classes()).Draw(t, m.name)}
			f.Automatic = !f.Class.Good() && rapid.Bool().Draw(t, m.name+" automatic")
			r.Findings = append(r.Findings, f)
		}
		p := MakePlan(r)
		for _, f := range r.Findings {
			step, planned := p.step(f.Member)
			if !f.Class.Good() && !planned {
				t.Fatalf("%s is %s and not planned", f.Member, f.Class)
			}
			if f.Class.Good() && planned && !step.Coupled {
				t.Fatalf("%s is %s and planned by itself", f.Member, f.Class)
			}
			if planned && !f.Class.Good() && !f.Automatic && !step.Consent {
				t.Fatalf("%s would be replaced without consent", f.Member)
			}
		}
		automatic := p.Automatic()
		if len(automatic.Steps)+len(p.Consent()) != len(p.Steps) {
			t.Fatalf("%d automatic and %d with consent are not %d", len(automatic.Steps), len(p.Consent()), len(p.Steps))
		}
		for _, pair := range [][2]string{{ServerCA, ClientTLS}, {CA, Server}, {CA, Client}} {
			_, first := automatic.step(pair[0])
			_, second := automatic.step(pair[1])
			if first && !second {
				t.Fatalf("%s is issued without %s: %v", pair[0], pair[1], stepMembers(automatic))
			}
		}
		if !slices.IsSortedFunc(p.Steps, func(a, b Step) int { return order(want, a) - order(want, b) }) {
			t.Fatalf("order %v", stepMembers(p))
		}
	})
}

func order(want Requirements, s Step) int {
	return slices.IndexFunc(want.members(), func(m member) bool { return m.name == s.Member })
}

func TestPlanMissingOfARenamedGateway(t *testing.T) {
	want := Requirements{Generation: Generation2, Layout: Kubernetes, Names: map[string]string{Client: "tls-b", JWT: "keys"}, Without: []string{JWT}}
	p := PlanMissingOf(want, []string{" tls-b", "openshell-client-tls", "keys", "", "tls-b"})
	var steps []string
	for _, s := range p.Steps {
		steps = append(steps, fmt.Sprintf("%s %s %s %v %v", s.Member, s.Name, s.Class, s.Coupled, s.Consent))
	}
	if diff := cmp.Diff([]string{"server openshell-server-tls ok true false", "client tls-b absent false false"}, steps); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"tls-b"}, p.Missing); diff != "" || p.Layout != Kubernetes || !p.NeedsRepair {
		t.Errorf("%+v\n%s", p, diff)
	}
}

// TestExpiringWithoutItsCA: what cannot be renewed under its CA can be replaced
// before it expires, with consent.
func TestExpiringWithoutItsCA(t *testing.T) {
	want := generation1()
	s := fresh(t, want, moment())
	late := moment().Add(9 * 365 * 24 * time.Hour)
	r := Inspect(s, want, late)
	for _, renew := range []Renewal{RenewNothing, RenewExpiring} {
		if p := MakeRenewal(r, renew); p.NeedsRepair {
			t.Errorf("renewal %d: %+v", renew, p.Steps)
		}
	}
	p := MakeRenewal(r, RenewReplacing)
	if len(p.Steps) != 3 || len(p.Consent()) != 3 || p.Automatic().NeedsRepair {
		t.Errorf("%+v", p.Steps)
	}
	store := newMemoryStore(s)
	out, err := Repair(t.Context(), Fixed{store, want}, late, RepairOptions{Replace: true, Renew: RenewReplacing})
	if err != nil || len(out.Written) != 3 || len(out.After.Caveats) != 0 {
		t.Errorf("%+v, %v", out.After, err)
	}
}

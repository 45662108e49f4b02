package bundle

import (
	"fmt"
	"slices"
	"strings"
)

// Step is one member that is to be issued.
type Step struct {
	Member string `json:"member"`
	Name   string `json:"name"`    // what it is stored under
	Title  string `json:"title"`   // imperative, for a person
	Class  Class  `json:"because"` // what the member is now; OK or Expiring for a step that only goes along
	// Coupled: the member goes along because its CA is issued again.
	Coupled bool `json:"coupled"`
	// Consent: it replaces something that may be in use.
	Consent bool `json:"needs_consent"`
	// FromCA: the CA that is there issues it.
	FromCA bool `json:"from_existing_ca"`
	// KeepsKey: the private key stays, only what follows from it is made again.
	KeepsKey bool `json:"keeps_key"`
	// Recreate: the stored object has a type that cannot be changed, so it is
	// deleted and made again.
	Recreate bool `json:"recreate"`
	// Disturbs says in words who notices; empty when nobody does.
	Disturbs []string `json:"disturbs"`
}

// Plan is what mending a set means. It is data: Issue does it.
type Plan struct {
	Generation Generation `json:"generation"`
	Layout     Layout     `json:"layout"`
	// Missing are the names that are positively absent, as stored.
	Missing     []string `json:"missing"`
	NeedsRepair bool     `json:"needs_repair"`
	// What is to be issued, in the words of generation 1; generation 2 has no
	// handshake, generation 1 no sandbox key.
	NeedsServerTLS    bool   `json:"needs_server_tls"`
	NeedsClientBundle bool   `json:"needs_client_bundle"`
	NeedsHandshake    bool   `json:"needs_handshake"`
	NeedsSandboxKey   bool   `json:"needs_sandbox_key"`
	Steps             []Step `json:"steps"` // in the fixed order of the set
}

// Renewal says which good certificates are issued again, too, where that
// disturbs no trust: leaves of a CA whose key is at hand.
type Renewal int

// The zero value renews nothing.
const (
	RenewNothing  Renewal = iota
	RenewExpiring         // those with less than a third of their life left
	RenewAll
	// RenewReplacing is RenewExpiring, and replaces with consent what is expiring
	// and whose CA's key is not at hand.
	RenewReplacing
)

// MakePlan says what must be issued so that a set is good. Members that are good
// are left alone, unless the CA that issued them is replaced.
func MakePlan(r Report) Plan { return MakeRenewal(r, RenewNothing) }

// MakeRenewal is MakePlan, and renews good certificates.
func MakeRenewal(r Report, renew Renewal) Plan {
	need := map[string]Finding{}
	for _, f := range r.Findings {
		due := renew == RenewAll && f.Class == OK || renew != RenewNothing && f.Class == Expiring
		renewable := due && r.CAKey && (f.Member == Server || f.Member == Client)
		if renewable {
			f.Automatic = true
		}
		replaceable := renew == RenewReplacing && f.Class == Expiring
		if !f.Class.Good() || renewable || replaceable {
			need[f.Member] = f
		}
	}
	return planSteps(r.Generation, r.Layout, r, need)
}

// PlanMissing plans from names that were reported missing and nothing else, in
// the layout that NemoClaw's bootstrap knew for the generation: Kubernetes for
// generation 1, the directory for generation 2. Names are trimmed; empty,
// repeated and unknown ones are dropped; their order is kept.
func PlanMissing(generation Generation, names []string) Plan {
	return PlanMissingOf(Requirements{Generation: generation}, names)
}

// PlanMissingOf is PlanMissing for a gateway whose layout and stored names are
// known.
func PlanMissingOf(want Requirements, names []string) Plan {
	r := Report{Generation: want.Generation, Layout: want.layout(), CAKey: keepsCAKey(want.Generation, want.layout())}
	known := want.members()
	for _, m := range known {
		r.Findings = append(r.Findings, Finding{Member: m.name, Name: m.stored, Class: OK})
	}
	need := map[string]Finding{}
	missing := []string{}
	for _, name := range names {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(known, func(m member) bool { return m.stored == name })
		if i < 0 || slices.Contains(missing, name) {
			continue
		}
		missing = append(missing, name)
		need[known[i].name] = Finding{Member: known[i].name, Name: name, Class: Absent, Automatic: true}
	}
	p := planSteps(r.Generation, r.Layout, r, need)
	p.Missing = missing
	return p
}

// planSteps adds to the needed members those that go along with them, and says
// what each step means.
func planSteps(g Generation, l Layout, r Report, need map[string]Finding) Plan {
	p := Plan{Generation: g, Layout: l, Missing: []string{}, Steps: []Step{}}
	group := coupled(g, l, need, r.Find(CA).KeepsKey)
	groupConsent := slices.ContainsFunc(group, func(m string) bool {
		f, ok := need[m]
		return ok && !f.Automatic
	})
	for _, m := range members(g, l) {
		f, needed := need[m.name]
		along := slices.Contains(group, m.name)
		if !needed && !along {
			continue
		}
		if !needed {
			f = r.Find(m.name)
		}
		s := Step{Member: m.name, Name: f.Name, Class: f.Class, Coupled: !needed, KeepsKey: f.KeepsKey && needed,
			Recreate: f.WrongType}
		s.FromCA = !along && keepsCAKey(g, l) && (m.role == roleServer || m.role == roleClient)
		if along {
			s.Consent = groupConsent
		} else {
			s.Consent = !f.Automatic
		}
		s.Title = s.title(m)
		s.Disturbs = disturbed(m, s)
		if f.Class == Absent {
			p.Missing = append(p.Missing, f.Name)
		}
		p.note(m.role)
		p.Steps = append(p.Steps, s)
	}
	p.NeedsRepair = len(p.Steps) > 0
	return p
}

// coupled lists the members that must be issued together because of one that is
// needed: where the CA's key is not kept, the CA and all that it issued; where
// it is, the same once the CA itself is to be replaced.
func coupled(g Generation, l Layout, need map[string]Finding, keepsKey bool) []string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { _, ok := need[n]; return ok })
	}
	switch {
	case g == Generation1 && has(ServerCA, ClientTLS):
		return []string{ServerCA, ClientTLS}
	case g == Generation2 && l == Kubernetes && has(Server, Client):
		return []string{Server, Client}
	case g == Generation2 && l == Directory && has(CA) && !keepsKey:
		return []string{CA, Server, Client}
	}
	return nil
}

func (p *Plan) note(r role) {
	switch r {
	case roleServer:
		p.NeedsServerTLS = true
	case roleCA, roleClient:
		p.NeedsClientBundle = true
	case roleHandshake:
		p.NeedsHandshake = true
	case roleSandboxKey:
		p.NeedsSandboxKey = true
	}
}

func (s Step) title(m member) string {
	what := map[role]string{
		roleServer:     "server certificate",
		roleCA:         "certificate authority",
		roleClient:     "client certificate",
		roleHandshake:  "SSH handshake secret",
		roleSandboxKey: "key for sandbox tokens",
	}[m.role]
	switch {
	case s.Class == Absent:
		return fmt.Sprintf("create the %s (%s)", what, s.Name)
	case s.KeepsKey:
		return fmt.Sprintf("complete the %s (%s) from its key", what, s.Name)
	case s.Class.Good() && !s.Coupled:
		return fmt.Sprintf("renew the %s (%s)", what, s.Name)
	case s.Coupled:
		return fmt.Sprintf("replace the %s (%s) along with its authority", what, s.Name)
	}
	return fmt.Sprintf("replace the %s (%s), which is %s", what, s.Name, strings.ReplaceAll(string(s.Class), "-", " "))
}

// renews reports that a good leaf is issued again by the same CA. What was issued
// before stays good, so nobody has to notice.
func (s Step) renews() bool { return s.Class.Good() && s.FromCA }

// disturbed says who notices that a member is another one from now on.
func disturbed(m member, s Step) []string {
	if s.Class == Absent && !s.Coupled || s.KeepsKey || s.renews() {
		return []string{}
	}
	switch m.role {
	case roleCA:
		return []string{"every connected client: it trusts the authority that is replaced"}
	case roleServer:
		return []string{"the gateway: it presents the new certificate after a restart"}
	case roleClient:
		return []string{"registered clients: the registration is written again with the new certificate"}
	case roleHandshake:
		return []string{"running sandboxes: SSH into them fails until they restart"}
	default:
		return []string{"running sandboxes: their tokens are no longer accepted until they are renewed"}
	}
}

// Consent lists the steps that replace something that may be in use.
func (p Plan) Consent() []Step {
	return slices.DeleteFunc(slices.Clone(p.Steps), func(s Step) bool { return !s.Consent })
}

// Automatic is the part of a plan that needs nobody's consent. Members that
// must be issued together are in it together or not at all.
func (p Plan) Automatic() Plan {
	steps := slices.DeleteFunc(slices.Clone(p.Steps), func(s Step) bool { return s.Consent })
	p.Steps, p.Missing = []Step{}, []string{}
	p.NeedsServerTLS, p.NeedsClientBundle, p.NeedsHandshake, p.NeedsSandboxKey = false, false, false, false
	for _, m := range members(p.Generation, p.Layout) {
		for _, s := range steps {
			if s.Member != m.name {
				continue
			}
			if s.Class == Absent {
				p.Missing = append(p.Missing, s.Name)
			}
			p.note(m.role)
			p.Steps = append(p.Steps, s)
		}
	}
	p.NeedsRepair = len(p.Steps) > 0
	return p
}

func (p Plan) step(member string) (Step, bool) {
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Member == member })
	if i < 0 {
		return Step{}, false
	}
	return p.Steps[i], true
}

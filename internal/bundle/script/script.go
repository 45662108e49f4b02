// Package script writes the repair of a gateway's bootstrap secrets down as a
// POSIX shell script, for a cluster that Creel cannot reach. It is pure: it turns
// a plan into text. What a certificate says is package bundle's; what may be
// repaired and in which order must be as in that package, only the tools differ.
package script

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"

	"creel/internal/bundle"
)

// Options say for which gateway a script is.
type Options struct {
	// Want is what the gateway needs, always as Kubernetes secrets.
	Want bundle.Requirements
	// Plan limits the script to what it says is missing, see
	// bundle.PlanMissingOf. Without one the script finds out by itself. Either way
	// it asks the cluster first and touches nothing that is there, except a member
	// that must be issued again along with a missing one.
	Plan *bundle.Plan
	// StatefulSet is the gateway's; "openshell" when empty.
	StatefulSet string
	// Gateway is the value of the label by which a teardown finds what was written.
	Gateway string
	// Context is one of the kubeconfig that kubectl reads; empty is the current one.
	Context string
}

const (
	nothing        = "exit 0\n"
	requestTimeout = "10s" // of each request that kubectl sends
	maxBackups     = 99
)

var (
	//go:embed script.sh.tmpl
	mainText string
	//go:embed issue.sh.tmpl
	issueText string
	//go:embed replace.sh.tmpl
	replaceText string

	// The usual delimiters are those of kubectl's own templates.
	text = template.Must(template.Must(template.Must(template.New("script").Delims("<%", "%>").Funcs(template.FuncMap{
		"quote": quote, "subject": subject, "days": days,
	}).Parse(mainText)).Parse(issueText)).Parse(replaceText))
)

// Generate returns the script. It needs sh, kubectl and openssl where it runs;
// its exit code is 0 when nothing is missing at the end, 4 when the cluster could
// not be asked, and otherwise 1. Every name that goes into it is checked first.
func Generate(o Options) (string, error) {
	f, err := o.fields()
	if err != nil {
		return "", fmt.Errorf("generate script: %w", err)
	}
	if len(f.Wanted) == 0 {
		return nothing, nil
	}
	var b strings.Builder
	if err := text.Execute(&b, f); err != nil {
		return "", fmt.Errorf("generate script: %w", err)
	}
	return b.String(), nil
}

// fields are what the template fills in. A block whose member is nil is not in
// the script.
type fields struct {
	Generation                               bundle.Generation
	Namespace, StatefulSet, Gateway, Context string
	Timeout                                  string
	MaxBackups                               int

	Named   bool      // the members to look at were named, not found out
	Wanted  []*member // those, in the order in which they were
	Members []*member // those and what goes along with them
	Groups  []group   // the same, by what is issued together

	Server, Authority, Client, Handshake, SandboxKey *member
	Pair                                             *group

	AuthorityProfile, ServerProfile, ClientProfile bundle.Profile
	Names                                          []alternativeName
	Backdating                                     string // hours:minutes
	HandshakeBytes, HandshakeDigits                int

	// Annotations of the StatefulSet and of its pod template.
	Pending, RestartedAt, RestartedFor string

	// BackupInfix is in the names of backups, and these annotations are on them.
	BackupInfix, BackupOf, BackupType string

	// Marks are the names by which a pod template shows its generation.
	Marks struct{ Server, Authority, Client, Handshake, SandboxKey string }
}

type member struct {
	Variable     string // in the script
	Stored, Type string
	Group        string
}

// group is members that are issued together.
type group struct {
	Name    string
	Members []*member
}

type alternativeName struct{ Kind, Value string }

// Certificates says whether any certificate is issued.
func (f fields) Certificates() bool { return f.Server != nil || f.Pair != nil }

// Along are the members that are not looked for by themselves.
func (f fields) Along() []*member {
	return slices.DeleteFunc(slices.Clone(f.Members), func(m *member) bool { return slices.Contains(f.Wanted, m) })
}

func (o Options) fields() (fields, error) {
	want := o.Want
	want.Layout = cmp.Or(want.Layout, bundle.Kubernetes)
	known := want.Members()
	if want.Layout != bundle.Kubernetes || len(known) == 0 {
		return fields{}, fmt.Errorf("there is no generation %d (%s) of bootstrap secrets in a cluster", want.Generation, want.Layout)
	}
	f := fields{Generation: want.Generation, Gateway: o.Gateway, Context: o.Context,
		Namespace: cmp.Or(want.Namespace, "openshell"), StatefulSet: cmp.Or(o.StatefulSet, "openshell"),
		Timeout: requestTimeout, MaxBackups: maxBackups, Named: o.Plan != nil,
		AuthorityProfile: want.Profile(bundle.CA), HandshakeBytes: bundle.HandshakeBytes, HandshakeDigits: 2 * bundle.HandshakeBytes,
		Pending: bundle.AnnotationRestartPending, RestartedAt: bundle.AnnotationRestartedAt, RestartedFor: bundle.AnnotationRestartedFor,
		BackupInfix: bundle.BackupInfix, BackupOf: bundle.AnnotationBackupOf, BackupType: bundle.AnnotationBackupType,
		Backdating: fmt.Sprintf("%d:%02d", int(bundle.Backdating.Hours()), int(bundle.Backdating.Minutes())%60)}
	if err := f.check(known); err != nil {
		return fields{}, err
	}
	plan := bundle.PlanMissingOf(want, want.Stored())
	if o.Plan != nil {
		plan = *o.Plan
	}
	if plan.Generation != want.Generation || plan.Layout != bundle.Kubernetes {
		return fields{}, fmt.Errorf("the plan is for generation %d (%s), the gateway needs generation %d (%s)",
			plan.Generation, plan.Layout, want.Generation, bundle.Kubernetes)
	}
	f.mark(known)
	for _, s := range plan.Steps {
		i := slices.IndexFunc(known, func(m bundle.Member) bool { return m.Name == s.Member && m.Stored == s.Name })
		switch {
		case i < 0:
			return fields{}, fmt.Errorf("the plan is for another gateway: it has a step for %q (%q)", s.Member, s.Name)
		case s.Class != bundle.Absent && !s.Coupled:
			return fields{}, fmt.Errorf("the plan replaces %s, which is %s: a script only makes what is missing", s.Name, s.Class)
		}
		f.add(known[i])
	}
	for _, name := range plan.Missing {
		i := slices.IndexFunc(f.Members, func(m *member) bool { return m.Stored == name })
		if i < 0 {
			return fields{}, fmt.Errorf("the plan has no step for %q, which is missing", name)
		}
		f.Wanted = append(f.Wanted, f.Members[i])
	}
	f.group()
	return f, f.profiles(want)
}

func (f *fields) add(m bundle.Member) {
	row := &member{Stored: m.Stored, Type: m.Type}
	switch m.Name {
	case bundle.ServerTLS, bundle.Server:
		row.Variable, f.Server = "server", row
	case bundle.ServerCA:
		row.Variable, f.Authority = "authority", row
	case bundle.ClientTLS, bundle.Client:
		row.Variable, f.Client = "client", row
	case bundle.SSHHandshake:
		row.Variable, f.Handshake = "handshake", row
	case bundle.JWT:
		row.Variable, f.SandboxKey = "sandbox_key", row
	}
	f.Members = append(f.Members, row)
}

// group puts those first that may have to replace something: as long as nothing
// is written, a refusal leaves everything as it was.
func (f *fields) group() {
	add := func(name string, members ...*member) {
		for _, m := range members {
			m.Group = name
		}
		f.Groups = append(f.Groups, group{name, members})
	}
	if f.Client != nil {
		if f.Generation == bundle.Generation1 {
			add("client_bundle", f.Authority, f.Client)
		} else {
			add("tls_bundle", f.Server, f.Client)
		}
		pair := f.Groups[0]
		f.Pair = &pair
	}
	if f.Server != nil && f.Generation == bundle.Generation1 {
		add("server_tls", f.Server)
	}
	if f.Handshake != nil {
		add("handshake", f.Handshake)
	}
	if f.SandboxKey != nil {
		add("sandbox_key", f.SandboxKey)
	}
}

func (f *fields) mark(known []bundle.Member) {
	f.Marks.Authority, f.Marks.Handshake = bundle.ServerCA, bundle.SSHHandshake
	for _, m := range known {
		switch m.Name {
		case bundle.ServerTLS, bundle.Server:
			f.Marks.Server = m.Stored
		case bundle.ServerCA:
			f.Marks.Authority = m.Stored
		case bundle.ClientTLS, bundle.Client:
			f.Marks.Client = m.Stored
		case bundle.SSHHandshake:
			f.Marks.Handshake = m.Stored
		case bundle.JWT:
			f.Marks.SandboxKey = m.Stored
		}
	}
}

func (f *fields) profiles(want bundle.Requirements) error {
	server, client := bundle.Server, bundle.Client
	if want.Generation == bundle.Generation1 {
		server, client = bundle.ServerTLS, bundle.ClientTLS
	}
	f.ServerProfile, f.ClientProfile = want.Profile(server), want.Profile(client)
	for _, name := range f.ServerProfile.Names {
		if ip, err := netip.ParseAddr(name); err == nil && ip.Zone() == "" {
			f.Names = append(f.Names, alternativeName{"IP", ip.String()})
		} else if hostName.MatchString(name) && len(name) <= maxName {
			f.Names = append(f.Names, alternativeName{"DNS", name})
		} else {
			return fmt.Errorf("host %.80q is neither a DNS name nor an address", name)
		}
	}
	for _, p := range []bundle.Profile{f.AuthorityProfile, f.ServerProfile, f.ClientProfile} {
		if p.Life%(24*time.Hour) != 0 {
			return errors.New("a certificate's life is not whole days")
		}
	}
	return nil
}

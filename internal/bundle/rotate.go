package bundle

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"creel/internal/advisory"
)

// A set that keeps no CA key cannot issue a leaf again under the CA that its
// clients trust. It is rotated in two steps with time between them, so that
// nobody ever meets a certificate of an authority that it does not know:
//
//  1. trust: a new authority issues new leaves, which are put aside. Both
//     certificates' ca.crt get the new authority beside the old one. The leaves
//     stay, so everybody goes on whatever they have read so far.
//  2. switch: once clients have read the new ca.crt, the leaves that were put
//     aside take their places. The old authority stays trusted, which is harmless,
//     since nobody has its key, and leaves with the next rotation.
//
// Which step is next follows from what is there. An interrupted step is done
// again or begins anew; neither loses anything that is in use.

// Stage is where a rotation is.
type Stage string

// The stages. Done is a set of which nothing is due.
const (
	RotationDone    Stage = "done"
	RotationTrust   Stage = "trust"
	RotationWaiting Stage = "waiting" // trusted, but clients may not have read it yet
	RotationSwitch  Stage = "switch"
)

// TrustTime is how long after the first step the second may follow: a kubelet
// brings a changed secret into running pods within about two minutes.
const TrustTime = 2 * time.Minute

const (
	nextSuffix  = "-creel-next"
	nextServer  = "server."
	nextClient  = "client."
	nextSince   = "since"
	nextCAFile  = keyCACert
	nextCrtPart = "crt"
	nextKeyPart = "key"
)

// Rotation is the next step of a rotation.
type Rotation struct {
	Stage Stage
	// Ready is when the second step may follow; zero unless waiting.
	Ready time.Time
	// Write are the secrets to write, and Replaced those of them that the gateway
	// must be rolled for.
	Write    []Secret
	Replaced []string
}

// Title is the step in words, imperative; empty when there is none.
func (r Rotation) Title() string {
	switch r.Stage {
	case RotationTrust:
		return "let gateway and clients trust a new authority beside the old one"
	case RotationSwitch:
		return "put the certificates of the new authority in place"
	}
	return ""
}

// Rotating is want with the secret that a rotation keeps between its steps, for
// sets in Kubernetes of generation 2; ok is false for others, whose CA is at hand
// or whose server certificate signs itself.
func Rotating(want Requirements) (next Requirements, ok bool) {
	if want.Generation != Generation2 || want.layout() != Kubernetes {
		return want, false
	}
	server, _ := want.leafMembers()
	want.Further = []string{server.stored + nextSuffix}
	return want, true
}

func (r Requirements) leafMembers() (server, client member) {
	for _, m := range r.members() {
		switch m.role {
		case roleServer:
			server = m
		case roleClient:
			client = m
		}
	}
	return server, client
}

// PlanRotation decides the next step of a good set. It is due when a certificate
// is expiring, when all is set, or when an earlier rotation is unfinished.
func PlanRotation(s Snapshot, want Requirements, now time.Time, all bool, random io.Reader) (Rotation, error) {
	want, ok := Rotating(want)
	if !ok {
		return Rotation{}, errors.New("rotate: this set is not rotated in steps")
	}
	report := Inspect(s, want, now)
	if bad := report.Bad(); len(bad) > 0 {
		return Rotation{}, fmt.Errorf("rotate: only a good set can be rotated, and %s", bad[0])
	}
	server, client := want.leafMembers()
	due := all || slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Class == Expiring })
	aside, err := readNext(s.Secrets[want.Further[0]])
	switch {
	case err == nil && aside.trusted(s, server, client):
		if ready := aside.since.Add(TrustTime); now.Before(ready) {
			return Rotation{Stage: RotationWaiting, Ready: ready}, nil
		}
		r := Rotation{Stage: RotationSwitch, Replaced: []string{server.stored, client.stored}}
		for _, leaf := range []struct {
			member
			part string
		}{{server, nextServer}, {client, nextClient}} {
			r.Write = append(r.Write, Secret{Name: leaf.stored, Type: leaf.typ, Data: map[string][]byte{
				keyTLSCert: aside.data[leaf.part+nextCrtPart], keyTLSKey: aside.data[leaf.part+nextKeyPart],
				keyCACert: s.Secrets[leaf.stored].Data[keyCACert]}})
		}
		r.Write = append(r.Write, Secret{Name: want.Further[0], Type: typeOpaque, Data: map[string][]byte{}})
		return r, nil
	case !due && err != nil:
		return Rotation{Stage: RotationDone}, nil
	}
	return begin(s, want, server, client, now, random)
}

// begin is the first step.
func begin(s Snapshot, want Requirements, server, client member, now time.Time, random io.Reader) (Rotation, error) {
	is := issuer{want: want, now: now, rand: random}
	if err := is.newAuthority(nil); err != nil {
		return Rotation{}, fmt.Errorf("rotate: %w", err)
	}
	next := Secret{Name: want.Further[0], Type: typeOpaque, Data: map[string][]byte{nextCAFile: is.caPEM,
		nextSince: []byte(now.UTC().Format(time.RFC3339))}}
	r := Rotation{Stage: RotationTrust, Replaced: []string{server.stored, client.stored}, Write: []Secret{next}}
	for _, leaf := range []struct {
		member
		part string
	}{{server, nextServer}, {client, nextClient}} {
		data, err := is.leaf(leaf.member)
		if err != nil {
			return Rotation{}, fmt.Errorf("rotate: issue %s: %w", leaf.stored, err)
		}
		next.Data[leaf.part+nextCrtPart], next.Data[leaf.part+nextKeyPart] = data[keyTLSCert], data[keyTLSKey]
		have := s.Secrets[leaf.stored]
		r.Write = append(r.Write, Secret{Name: leaf.stored, Type: leaf.typ, Data: map[string][]byte{
			keyTLSCert: have.Data[keyTLSCert], keyTLSKey: have.Data[keyTLSKey], keyCACert: beside(is.caPEM, have, s, server, client)}})
	}
	return r, nil
}

// beside is a new authority followed by those of the earlier ones that issued a
// leaf which is in use.
func beside(newest []byte, have Secret, s Snapshot, server, client member) []byte {
	out := bytes.Clone(newest)
	earlier, err := parseCertificates(have.Data[keyCACert])
	if err != nil {
		return out
	}
	for _, ca := range earlier {
		issued := slices.ContainsFunc([]member{server, client}, func(m member) bool {
			leaf, err := parseCertificates(s.Secrets[m.stored].Data[keyTLSCert])
			return err == nil && leaf[0].CheckSignatureFrom(ca) == nil
		})
		if issued {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
		}
	}
	return out
}

// next is what was put aside.
type next struct {
	data  map[string][]byte
	ca    *x509.Certificate
	since time.Time
}

func readNext(s Secret) (next, error) {
	n := next{data: s.Data}
	certs, err := parseCertificates(s.Data[nextCAFile])
	if err != nil {
		return n, err
	}
	n.ca = certs[0]
	if n.since, err = time.Parse(time.RFC3339, string(s.Data[nextSince])); err != nil {
		return n, err
	}
	for _, part := range []string{nextServer, nextClient} {
		leaf, err := parseCertificates(s.Data[part+nextCrtPart])
		if err != nil {
			return n, err
		}
		key, err := parseKey(s.Data[part+nextKeyPart])
		if err != nil {
			return n, err
		}
		if !fits(leaf[0], key) || leaf[0].CheckSignatureFrom(n.ca) != nil {
			return n, errors.New("it does not fit")
		}
	}
	return n, nil
}

// trusted reports that gateway and clients are told to trust the new authority.
func (n next) trusted(s Snapshot, members ...member) bool {
	for _, m := range members {
		certs, err := parseCertificates(s.Secrets[m.stored].Data[keyCACert])
		if err != nil || !slices.ContainsFunc(certs, n.ca.Equal) {
			return false
		}
	}
	return true
}

// RotationOutcome is what a rotation did.
type RotationOutcome struct {
	Rotation Rotation
	Written  []string
	Rolled   bool
	After    Report
}

// Rotate does the next step of a rotation in a cluster, and verifies it by reading
// what was written.
func Rotate(ctx context.Context, target Target, now time.Time, all bool) (out RotationOutcome, err error) {
	out.Written = []string{}
	want, err := target.Requirements(ctx)
	if err != nil {
		return out, explained("secrets-unknown", "read bootstrap secrets", err)
	}
	want, ok := Rotating(want)
	if !ok {
		return out, errors.New("rotate: this set is not rotated in steps")
	}
	snapshot, err := target.Load(ctx, want)
	if err != nil {
		return out, explained("secrets-unknown", "read bootstrap secrets", err)
	}
	out.After = Inspect(snapshot, want, now)
	if out.Rotation, err = PlanRotation(snapshot, want, now, all, rand.Reader); err != nil {
		return out, advisory.New("secrets-not-rotated", "rotate bootstrap secrets", err)
	}
	if out.Rotation.Stage != RotationTrust && len(snapshot.Unrolled) > 0 {
		// A step was interrupted before its roll, so the gateway does not trust yet
		// what a switch would make its clients present.
		if out.Rotation.Stage == RotationSwitch {
			out.Rotation = Rotation{Stage: RotationWaiting, Ready: now.Add(TrustTime)}
		}
		return out, out.roll(ctx, target, snapshot.Unrolled)
	}
	if len(out.Rotation.Write) == 0 {
		return out, nil
	}
	if err := target.Apply(ctx, out.Rotation.Write, snapshot); err != nil {
		if errors.Is(err, ErrChanged) {
			return out, advisory.New("secrets-changed", "write bootstrap secrets", err)
		}
		return out, explained("secrets-write", "write bootstrap secrets", err)
	}
	for _, s := range out.Rotation.Write {
		out.Written = append(out.Written, s.Name)
	}
	if snapshot, err = target.Load(ctx, want); err != nil {
		return out, explained("secrets-unknown", "read bootstrap secrets after writing them", err)
	}
	out.After = Inspect(snapshot, want, now)
	if bad := out.After.Bad(); len(bad) > 0 {
		return out, advisory.New(out.After.Worst().Class.Advisory(), "rotated, and "+bad[0].String(), nil)
	}
	return out, out.roll(ctx, target, out.Rotation.Replaced)
}

func (o *RotationOutcome) roll(ctx context.Context, target Target, names []string) (err error) {
	if o.Rolled, err = target.Roll(ctx, names); err != nil {
		return rollRefused("make the gateway start again with its new secrets", err)
	}
	o.After.paid()
	return nil
}

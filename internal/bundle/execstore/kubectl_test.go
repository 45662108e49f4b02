package execstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/host/engine"
)

// scripted is an engine in whose container kubectl says what it is told.
type scripted struct {
	result engine.Result
	err    error
	args   [][]string
	stdin  []byte
}

func (s *scripted) Exec(_ context.Context, _ string, c engine.Command) (engine.Result, error) {
	s.args, s.stdin = append(s.args, c.Args), c.Stdin
	return s.result, s.err
}

func (s *scripted) Program() string { return "docker" }

func (s *scripted) store(t testing.TB) *Store {
	t.Helper()
	store, err := New(Options{Engine: s, Gateway: "gw"})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func said(stdout, stderr string, code int) *scripted {
	return &scripted{result: engine.Result{Stdout: []byte(stdout), Stderr: []byte(stderr), ExitCode: code}}
}

func id(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}

const (
	namespace   = `{"kind":"Namespace","metadata":{"name":"openshell"}}`
	statefulSet = `{"kind":"StatefulSet","metadata":{"name":"openshell","namespace":"openshell"}}`
	noSet       = "Error from server (NotFound): statefulsets.apps \"openshell\" not found\n"
	noNamespace = "Error from server (NotFound): namespaces \"openshell\" not found\n"
)

func list(items ...string) string {
	return `{"kind":"List","items":[` + strings.Join(items, ",") + `]}`
}

// TestOnlyTheAPISaysNotFound: what looks like an absence and is none is unknown.
func TestOnlyTheAPISaysNotFound(t *testing.T) {
	for _, c := range []struct {
		name, stdout, stderr string
		code                 int
		id                   string // "" is a gateway
	}{
		{"there", list(namespace, statefulSet), "", 0, ""},
		{"there, and a warning", list(namespace, statefulSet), "Warning: something is old\n", 0, ""},
		{"no StatefulSet", list(namespace), noSet, 1, "secrets-not-applicable"},
		{"no StatefulSet, and asides", list(namespace), "Warning: x\nE1125 21:00:00.000000 12 memcache.go:265] \"Unhandled\"\n" + noSet, 1, "secrets-not-applicable"},
		{"no namespace", list(), noNamespace + noNamespace, 1, "secrets-not-applicable"},
		{"neither, as old kubectls say it", list(), noNamespace + noSet, 1, "secrets-not-applicable"},
		{"namespace going", list(`{"kind":"Namespace","metadata":{"name":"openshell"},"status":{"phase":"Terminating"}}`, statefulSet), "", 0, "secrets-not-applicable"},
		{"namespaces are not for us", list(statefulSet), "Error from server (Forbidden): namespaces \"openshell\" is forbidden: User \"x\" cannot get resource \"namespaces\"\n", 1, ""},

		{"another StatefulSet is missing", list(namespace), "Error from server (NotFound): statefulsets.apps \"other\" not found\n", 1, "cluster-not-kubernetes"},
		{"the path is not found", list(namespace), "Error from server (NotFound): the server could not find the requested resource\n", 1, "cluster-not-kubernetes"},
		{"the words in other words", list(namespace), "error: statefulsets.apps \"openshell\" not found\n", 1, "cluster-unreachable"},
		{"not found and worse", list(namespace), noSet + "Error from server (InternalError): etcdserver: no leader\n", 1, "cluster-unhealthy"},
		{"an error without a reason", list(namespace), "Error from server: etcdserver: request timed out\n", 1, "cluster-unhealthy"},
		{"forbidden", "", "Error from server (Forbidden): statefulsets.apps \"openshell\" is forbidden: User \"x\" cannot get resource \"statefulsets\"\n", 1, "cluster-forbidden"},
		{"unauthorized", "", "error: You must be logged in to the server (Unauthorized)\n", 1, "cluster-unauthorized"},
		{"refused", "", "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?\n", 1, "cluster-unreachable"},
		{"TLS", "", "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority\n", 1, "cluster-tls"},
		{"slow", "", "Unable to connect to the server: context deadline exceeded (Client.Timeout exceeded while awaiting headers)\n", 1, "cluster-timeout"},
		{"no such kind", "", "error: the server doesn't have a resource type \"statefulset\"\n", 1, "cluster-not-kubernetes"},
		{"killed", "", "", 137, "cluster-unreachable"},
		{"success without a word", "", "", 0, "cluster-not-kubernetes"},
		{"success with half", list(namespace), "", 0, "cluster-not-kubernetes"},
		{"no JSON", "<html>", "", 0, "cluster-not-kubernetes"},
		{"cut short", list(namespace, statefulSet)[:60], "", 0, "cluster-not-kubernetes"},
		{"too much", list(namespace, statefulSet, `{"kind":"Secret","metadata":{"name":"x","namespace":"openshell"}}`), "", 0, "cluster-not-kubernetes"},
		{"of another namespace", list(namespace, strings.Replace(statefulSet, `"namespace":"openshell"`, `"namespace":"other"`, 1)), "", 0, "cluster-not-kubernetes"},
		{"there and not there", list(namespace, statefulSet), noSet, 1, "cluster-not-kubernetes"},
		{"items that are none", `{"kind":"List","items":[1,"x"]}`, "", 0, "cluster-not-kubernetes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := said(c.stdout, c.stderr, c.code)
			want, err := e.store(t).Requirements(t.Context())
			if id(err) != c.id || errors.Is(err, bundle.ErrNotApplicable) != (c.id == "secrets-not-applicable") || (err == nil) != (c.id == "") {
				t.Errorf("%+v, %v; want %q", want, err, c.id)
			}
		})
	}
	for _, err := range []error{errors.New("connection reset"), engine.ErrTooMuch, advisory.New("container-missing", "no", nil)} {
		e := &scripted{err: err}
		if _, got := e.store(t).Requirements(t.Context()); !errors.Is(got, err) || id(got) == "" || errors.Is(got, bundle.ErrNotApplicable) {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// TestCallerWhoWantsNoMore is not told that the cluster is slow.
func TestCallerWhoWantsNoMore(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	cancel(why)
	s := (&scripted{err: why}).store(t)
	if _, err := s.Requirements(ctx); !errors.Is(err, why) || id(err) != "" {
		t.Errorf("%v", err)
	}
	if v, err := s.HealthCheck(ctx); v != health.Unknown || !errors.Is(err, why) {
		t.Errorf("%s, %v", v, err)
	}
}

func TestNamesThatCannotBe(t *testing.T) {
	for _, o := range []Options{{Namespace: "--all-namespaces"}, {StatefulSet: "a/b"}, {Namespace: "A"}} {
		if s, err := New(o); id(err) != "cluster-name-invalid" {
			t.Errorf("%+v became %v, %v", o, s, err)
		}
	}
	s, err := New(Options{Gateway: "gw"})
	if err != nil || s.String() != "namespace openshell in container openshell-cluster-gw" {
		t.Errorf("%v, %v", s, err)
	}
}

// TestKeyMaterialIsRedacted: kubectl quotes what it cannot parse.
func TestKeyMaterialIsRedacted(t *testing.T) {
	want := bundle.Requirements{Generation: bundle.Generation1}
	key := "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VBTUJNR0J5cUdTTTQ5"
	handshake := strings.Repeat("0123456789abcdef", 4)
	var snapshot bundle.Snapshot
	for _, words := range []string{
		`error: error parsing STDIN: illegal base64 data at input byte 4, error found in #10 byte of ...|"tls.key":"` + key + `|...`,
		`Error from server (BadRequest): error when creating "STDIN": admission webhook "x" denied the request: ` + handshake,
		`The Secret "x" is invalid: data: Invalid value: "` + handshake + `"`,
	} {
		s := said("", words, 1).store(t)
		snapshot, _ = bundle.ClusterSnapshot("openshell", want.Stored(), nil)
		err := s.Apply(t.Context(), []bundle.Secret{{Name: bundle.SSHHandshake, Data: map[string][]byte{"secret": []byte(handshake)}}}, snapshot)
		if err == nil || strings.Contains(err.Error(), key[:20]) || strings.Contains(err.Error(), handshake[:20]) || !strings.Contains(err.Error(), credential.Redacted) {
			t.Errorf("%v", err)
		}
	}
	for _, kept := range []string{"statefulsets.apps \"openshell\" not found", `Get "https://127.0.0.1:6443/api/v1/namespaces/openshell/secrets/openshell-server-client-ca": EOF`} {
		if got := redact(kept); got != kept {
			t.Errorf("%q became %q", kept, got)
		}
	}
	// A broken object must not be quoted either.
	broken := fmt.Sprintf(`{"kind":"Secret","metadata":{"name":%q,"namespace":"openshell"},"data":{"secret":"%s!"}}`, bundle.SSHHandshake, key)
	absentOnes := ""
	for _, name := range []string{bundle.ServerTLS, bundle.ServerCA, bundle.ClientTLS} {
		absentOnes += fmt.Sprintf("Error from server (NotFound): secrets %q not found\n", name)
	}
	if _, err := said(list(statefulSet, broken), absentOnes, 1).store(t).Load(t.Context(), want); id(err) != "cluster-not-kubernetes" || strings.Contains(err.Error(), key[:12]) {
		t.Errorf("%v", err)
	}
}

// TestSuccessIsNotBelievedBlindly: kubectl says what it wrote.
func TestSuccessIsNotBelievedBlindly(t *testing.T) {
	want := bundle.Requirements{Generation: bundle.Generation1}
	snapshot, err := bundle.ClusterSnapshot("openshell", want.Stored(), nil)
	if err != nil {
		t.Fatal(err)
	}
	write := []bundle.Secret{{Name: bundle.SSHHandshake, Data: map[string][]byte{"secret": []byte("x")}}}
	e := said("", "", 0)
	if err := e.store(t).Apply(t.Context(), write, snapshot); id(err) != "cluster-not-kubernetes" {
		t.Errorf("silence is %v", err)
	}
	var sent struct {
		Kind  string
		Items []bundle.ClusterSecret
	}
	if err := json.Unmarshal(e.stdin, &sent); err != nil || sent.Kind != "List" || len(sent.Items) != 1 || sent.Items[0].Type != "Opaque" {
		t.Errorf("sent %+v, %v", sent, err)
	}
	if err := said("secret/"+bundle.SSHHandshake+"\n", "", 0).store(t).Apply(t.Context(), write, snapshot); err != nil {
		t.Error(err)
	}
}

func TestHealthScriptAnswers(t *testing.T) {
	for _, c := range []struct {
		e       *scripted
		verdict health.Verdict
		says    string
	}{
		{said("ok\n", "", 0), health.OK, ""},
		{said("checking\n", "no node is ready\n", 1), health.Failed, "no node is ready"},
		{said("", "", 3), health.Failed, "exit code 3"},
		{said("", "", 137), health.Unknown, "signal 9"},
		{&scripted{err: errors.New("reset")}, health.Unknown, "reset"},
	} {
		v, err := c.e.store(t).HealthCheck(t.Context())
		if v != c.verdict || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %s, %v", c.e.result, v, err)
		}
	}
}

// FuzzLook: whatever kubectl prints, an object is there, absent in the API's own
// words, or the answer is an error.
func FuzzLook(f *testing.F) {
	f.Add(list(namespace, statefulSet), "", 0)
	f.Add(list(namespace), noSet, 1)
	f.Add(statefulSet, noNamespace, 1)
	f.Add("", "Error from server (Forbidden): namespaces \"openshell\" is forbidden: x", 1)
	f.Add(`{"kind":"List","items":[{"kind":"StatefulSet"},null]}`, "Warning: x", 256)
	f.Fuzz(func(t *testing.T, stdout, stderr string, code int) {
		s := said(stdout, stderr, code).store(t)
		set := s.workload()
		a, err := s.look(t.Context(), "look", nil, set)
		switch there, gone := a.objects[set] != nil, a.absent[set]; {
		case err != nil && id(err) == "":
			t.Fatalf("no advisory: %v", err)
		case errors.Is(err, bundle.ErrNotApplicable) && !strings.Contains(stderr, strings.TrimSpace(noNamespace)):
			t.Fatalf("not applicable because of %q", stderr)
		case err == nil && there == gone:
			t.Fatalf("there %v, absent %v", there, gone)
		case gone && (code == 0 || !strings.Contains(stderr, strings.TrimSpace(noSet))):
			t.Fatalf("absent because of %q, exit code %d", stderr, code)
		}
	})
}

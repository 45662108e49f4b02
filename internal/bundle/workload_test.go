package bundle

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// workload makes a StatefulSet of a pod specification in JSON.
func workload(pod string) string {
	return `{"kind":"StatefulSet","apiVersion":"apps/v1","metadata":{"name":"openshell","namespace":"openshell"},
		"spec":{"serviceName":"openshell","template":{"spec":` + pod + `}}}`
}

const (
	// What OpenShell up to 0.0.36 mounts.
	pod1 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"tls-client-ca","secret":{"secretName":"openshell-server-client-ca"}},
		{"name":"data","persistentVolumeClaim":{"claimName":"data"}}],
		"containers":[{"name":"openshell","env":[
			{"name":"OPENSHELL_SSH_HANDSHAKE_SECRET","valueFrom":{"secretKeyRef":{"name":"openshell-ssh-handshake","key":"secret"}}},
			{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}`
	// What a release called "claws" of the chart of 0.0.111 mounts: the CA comes out
	// of the server's secret, the token keys are named after the release.
	pod2 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"tls-client-ca","secret":{"secretName":"openshell-server-tls","items":[{"key":"ca.crt","path":"ca.crt"}]}},
		{"name":"sandbox-jwt","projected":{"sources":[
			{"serviceAccountToken":{"path":"token"}},
			{"secret":{"name":"claws-jwt-keys","items":[{"key":"signing.pem","path":"signing.pem"}]}}]}}],
		"containers":[{"name":"gateway","env":[{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"},
			{"name":"OPENSHELL_DB_URL","valueFrom":{"secretKeyRef":{"name":"db","key":"url"}}}]}]}`
)

func TestRequirementsFromPodTemplate(t *testing.T) {
	cases := []struct {
		name, pod string
		want      Requirements
		stored    []string
	}{
		{"generation 1", pod1, Requirements{Generation: Generation1}, []string{ServerTLS, ServerCA, ClientTLS, SSHHandshake}},
		{"generation 1 without a handshake", strings.Replace(pod1, "OPENSHELL_SSH_HANDSHAKE_SECRET", "X", 1),
			Requirements{Generation: Generation1}, []string{ServerTLS, ServerCA, ClientTLS, SSHHandshake}},
		{"handshake that is optional", strings.Replace(pod1, `"key":"secret"`, `"key":"secret","optional":true`, 1),
			Requirements{Generation: Generation1, Without: []string{SSHHandshake}}, []string{ServerTLS, ServerCA, ClientTLS}},
		{"generation 2", pod2, Requirements{Generation: Generation2, Names: map[string]string{JWT: "claws-jwt-keys"}},
			[]string{ServerTLS, ClientTLS, "claws-jwt-keys"}},
		{"before there were tokens", `{"volumes":[{"name":"tls","secret":{"secretName":"openshell-server-tls"}}]}`,
			Requirements{Generation: Generation2, Without: []string{JWT}}, []string{ServerTLS, ClientTLS}},
		{"names of an operator", `{"volumes":[
			{"name":"server-tls","secret":{"secretName":"gw-cert"}},
			{"name":"client-tls","secret":{"secretName":"gw-user"}},
			{"name":"keys","secret":{"secretName":"gw-tokens","items":[{"key":"signing.pem","path":"s"}]}}]}`,
			Requirements{Generation: Generation2, Names: map[string]string{Server: "gw-cert", Client: "gw-user", JWT: "gw-tokens"}},
			[]string{"gw-cert", "gw-user", "gw-tokens"}},
		{"other names, generation 1", `{"volumes":[
			{"name":"a","secret":{"secretName":"s1","items":[{"key":"tls.crt","path":"c"},{"key":"tls.key","path":"k"}]}},
			{"name":"b","secret":{"secretName":"s2","items":[{"key":"ca.crt","path":"c"}]}}],
			"initContainers":[{"envFrom":[{"prefix":"HANDSHAKE_","secretRef":{"name":"s3"}}]}]}`,
			Requirements{Generation: Generation1, Names: map[string]string{ServerTLS: "s1", ServerCA: "s2", SSHHandshake: "s3"}},
			[]string{"s1", "s2", ClientTLS, "s3"}},
		{"a stranger's certificate first", strings.Replace(pod2, `{"volumes":[`,
			`{"volumes":[{"name":"metrics-tls","secret":{"secretName":"prometheus-tls"}},{"name":"ca","secret":{"secretName":"corporate","items":[{"key":"ca.crt","path":"c"}]}},`, 1),
			Requirements{Generation: Generation2, Names: map[string]string{JWT: "claws-jwt-keys"}}, []string{ServerTLS, ClientTLS, "claws-jwt-keys"}},
		{"a stranger's CA", `{"volumes":[{"name":"tls","secret":{"secretName":"openshell-server-tls"}},
			{"name":"corporate","secret":{"secretName":"corporate","items":[{"key":"ca.crt","path":"c"}]}}]}`,
			Requirements{Generation: Generation2, Without: []string{JWT}}, []string{ServerTLS, ClientTLS}},
		{"nothing that is known", `{"volumes":[{"name":"db","secret":{"secretName":"db"}}]}`,
			Requirements{Generation: Generation1}, []string{ServerTLS, ServerCA, ClientTLS, SSHHandshake}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, err := ParseWorkload([]byte(workload(c.pod)))
			if err != nil {
				t.Fatal(err)
			}
			c.want.Layout, c.want.Service, c.want.Namespace = Kubernetes, "openshell", "openshell"
			if c.want.Names == nil {
				c.want.Names = map[string]string{}
			}
			got := w.Requirements()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("requirements differ (-want +got):\n%s", diff)
			}
			if !slices.Equal(got.Stored(), c.stored) {
				t.Errorf("stored as %q, want %q", got.Stored(), c.stored)
			}
		})
	}
}

func TestParseWorkloadRefuses(t *testing.T) {
	for _, content := range []string{"", "null", "{", `{"kind":"Deployment","metadata":{"name":"openshell"}}`, `{"kind":"StatefulSet"}`,
		`{"kind":"StatefulSet","metadata":{"name":"a"},"spec":{"template":{"spec":{"volumes":{}}}}}`} {
		if w, err := ParseWorkload([]byte(content)); err == nil {
			t.Errorf("%q was read as %+v", content, w)
		}
	}
}

// TestNamesOfAService: the certificate must cover the gateway where it is.
func TestNamesOfAService(t *testing.T) {
	for _, generation := range []Generation{Generation1, Generation2} {
		want := Requirements{Generation: generation, Layout: Kubernetes, Service: "gw", Namespace: "claws"}
		s := fresh(t, want, moment())
		certs, err := parseCertificates(s.Secrets[ServerTLS].Data[keyTLSCert])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"gw", "gw.claws.svc", "gw.claws.svc.cluster.local", "localhost", "127.0.0.1"} {
			if certs[0].VerifyHostname(name) != nil {
				t.Errorf("generation %d: the certificate does not cover %s: %q", generation, name, certs[0].DNSNames)
			}
		}
		elsewhere := want
		elsewhere.Namespace = "openshell"
		if f := Inspect(s, elsewhere, moment()).Findings[0]; f.Class != WrongName {
			t.Errorf("generation %d: in another namespace it is %s", generation, f.Class)
		}
	}
}

// FuzzWorkload: whatever a cluster answers, what is needed is a set that can be
// issued and is good then.
func FuzzWorkload(f *testing.F) {
	f.Add([]byte(workload(pod1)))
	f.Add([]byte(workload(pod2)))
	f.Fuzz(func(t *testing.T, content []byte) {
		w, err := ParseWorkload(content)
		if err != nil {
			return
		}
		want := w.Requirements()
		names := want.Stored()
		if len(names) < 2 || slices.Contains(names, "") {
			t.Fatalf("stored as %q", names)
		}
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				t.Fatalf("two members are stored as %q: %q", name, names)
			}
		}
	})
}

package kubestore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
)

// kubeconfigFor writes a kubeconfig for any server; ca may be empty.
func kubeconfigFor(t *testing.T, server string, ca []byte, user map[string]any) string {
	t.Helper()
	if user == nil {
		user = map[string]any{"token": "token"}
	}
	place := map[string]any{"server": server}
	if len(ca) > 0 {
		place["certificate-authority-data"] = ca
	}
	content, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "here",
		"clusters": []any{map[string]any{"name": "cluster", "cluster": place}},
		"users":    []any{map[string]any{"name": "user", "user": user}},
		"contexts": []any{map[string]any{"name": "here", "context": map[string]any{"cluster": "cluster", "user": "user", "namespace": "elsewhere"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// selfSigned is the certificate of an authority and of a server in one.
func selfSigned(t *testing.T, begin, end time.Duration, names ...string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(end),
		IsCA: true, BasicConstraintsValid: true, DNSNames: names}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func serve(t *testing.T, handler http.HandlerFunc, certificate tls.Certificate) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

const page = `<!DOCTYPE html><html><title>Log in</title></html>`

// TestWhatAnswersIsNoCluster: whoever else answers at the cluster's address, and
// whatever it says, nothing is believed to be absent.
func TestWhatAnswersIsNoCluster(t *testing.T) {
	good, ca := selfSigned(t, -time.Hour, time.Hour)
	status := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	const notFound = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"not found"`
	for _, c := range []struct {
		name     string
		handler  http.HandlerFunc
		advisory string
	}{
		{"a page", status(200, "text/html", page), "cluster-not-kubernetes"},
		{"a page that says it is JSON", status(200, "application/json", page), "cluster-not-kubernetes"},
		{"a page for status 404", status(404, "text/html", page), "cluster-not-kubernetes"},
		{"JSON for status 404", status(404, "application/json", `{"message":"not found"}`), "cluster-not-kubernetes"},
		{"NotFound of nothing", status(404, "application/json", notFound+`}`), "cluster-not-kubernetes"},
		{"NotFound of something else", status(404, "application/json", notFound+`,"details":{"kind":"pods","name":"x"}}`), "secrets-unknown"},
		{"a page for status 403", status(403, "text/html", page), "cluster-not-kubernetes"},
		{"a page for status 409", status(409, "text/html", page), "cluster-not-kubernetes"},
		{"bad gateway", status(502, "text/html", page), "cluster-unhealthy"},
		{"internal error", status(500, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,"message":"etcdserver: leader changed"}`), "cluster-unhealthy"},
		{"busy", status(429, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429}`), "cluster-unhealthy"},
		{"unauthorized", status(401, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`), "cluster-unauthorized"},
		{"another object", status(200, "application/json", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"openshell"}}`), "cluster-not-kubernetes"},
		{"another StatefulSet", status(200, "application/json", `{"kind":"StatefulSet","apiVersion":"apps/v1","metadata":{"name":"other","namespace":"openshell"}}`), "cluster-not-kubernetes"},
		{"half an answer", status(200, "application/json", `{"kind":"StatefulSet","metadata":{"na`), "cluster-not-kubernetes"},
		{"a login page elsewhere", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/login" {
				http.Redirect(w, r, "/login", http.StatusFound)
				return
			}
			status(200, "text/html", page)(w, r)
		}, "cluster-not-kubernetes"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for block := []byte(strings.Repeat(" ", 1<<20)); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "cluster-not-kubernetes"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cluster-unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(Options{Kubeconfig: kubeconfigFor(t, serve(t, c.handler, good), ca, nil)})
			if err != nil {
				t.Fatal(err)
			}
			out, err := bundle.Repair(t.Context(), s, time.Now(), replace)
			if advisoryID(err) != c.advisory || out.NotApplicable != "" || len(out.Before.Findings) != 0 {
				t.Errorf("%q, want %q: %+v, %v", advisoryID(err), c.advisory, out, err)
			}
			if err != nil && strings.Contains(err.Error(), "<html>") {
				t.Errorf("the page is in the error: %v", err)
			}
			// The same for a secret, where a wrong belief would make a new one.
			snapshot, err := s.Load(t.Context(), bundle.Requirements{Generation: bundle.Generation1})
			if err == nil || snapshot.Secrets != nil {
				t.Errorf("Load: %+v, %v", snapshot, err)
			}
		})
	}
}

func TestTheWayToTheClusterFails(t *testing.T) {
	good, ca := selfSigned(t, -time.Hour, time.Hour)
	unused := func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }
	old, oldCA := selfSigned(t, -2*time.Hour, -time.Hour)
	early, earlyCA := selfSigned(t, time.Hour, 2*time.Hour) // our clock is behind the cluster's
	named, namedCA := selfSigned(t, -time.Hour, time.Hour, "kubernetes")
	strict := httptest.NewUnstartedServer(http.HandlerFunc(unused))
	strict.TLS = &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}
	strict.Config.ErrorLog = log.New(io.Discard, "", 0)
	strict.StartTLS()
	t.Cleanup(strict.Close)
	plain := httptest.NewServer(http.HandlerFunc(unused))
	t.Cleanup(plain.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	_ = closed.Close()
	for _, c := range []struct {
		name, kubeconfig, advisory, says string
	}{
		{"nothing listens", kubeconfigFor(t, "https://"+address, ca, nil), "cluster-unreachable", "connection refused"},
		{"another authority", kubeconfigFor(t, serve(t, unused, good), oldCA, nil), "cluster-tls", "x509"},
		{"no authority", kubeconfigFor(t, serve(t, unused, good), nil, nil), "cluster-tls", "unknown authority"},
		{"expired", kubeconfigFor(t, serve(t, unused, old), oldCA, nil), "cluster-tls", "expired or is not yet valid"},
		{"not valid yet", kubeconfigFor(t, serve(t, unused, early), earlyCA, nil), "cluster-tls", "expired or is not yet valid"},
		{"another name", kubeconfigFor(t, serve(t, unused, named), namedCA, nil), "cluster-tls", "127.0.0.1"},
		{"a client certificate is wanted", kubeconfigFor(t, strict.URL, ca, nil), "cluster-unauthorized", "certificate required"},
		{"no TLS", kubeconfigFor(t, strings.Replace(plain.URL, "http:", "https:", 1), ca, nil), "cluster-not-kubernetes", "HTTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(Options{Kubeconfig: c.kubeconfig})
			if err != nil {
				t.Fatal(err)
			}
			out, err := bundle.Repair(t.Context(), s, time.Now(), replace)
			if advisoryID(err) != c.advisory || !strings.Contains(fmt.Sprint(err), c.says) || out.NotApplicable != "" {
				t.Errorf("%q, want %q that says %q: %v", advisoryID(err), c.advisory, c.says, err)
			}
		})
	}
}

// TestCredentialsOfTheRealCluster: a token that expired or never was one, and the
// CA of another cluster.
func TestCredentialsOfTheRealCluster(t *testing.T) {
	w := spoiled(t)
	before := w.versions()
	ca, err := os.ReadFile(w.CA)
	if err != nil {
		t.Fatal(err)
	}
	w.kubeconfig = kubeconfigFor(t, w.Server, ca, map[string]any{"token": "expired"})
	_, err = w.repair(replace)
	w.wants(err, "cluster-unauthorized")
	_, other := selfSigned(t, -time.Hour, time.Hour)
	w.kubeconfig = kubeconfigFor(t, w.Server, other, nil)
	_, err = w.repair(replace)
	w.wants(err, "cluster-tls")
	w.kubeconfig = w.AdminKubeconfig
	w.mustBe(before)
}

// TestLoginPrograms: client-go runs them without a limit and without our context.
func TestLoginPrograms(t *testing.T) {
	good, ca := selfSigned(t, -time.Hour, time.Hour)
	url := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }, good)
	program := func(script string) map[string]any {
		return map[string]any{"exec": map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh",
			"args": []string{"-c", script}, "interactiveMode": "Never"}}
	}
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	here := t.TempDir() // gone when the test ends
	for _, c := range []struct{ name, script, advisory, says string }{
		{"fails", "exit 3", "cluster-plugin-failed", "exit code 3"},
		{"says nothing", "exit 0", "cluster-plugin-failed", "getting credentials"},
		{"never ends", "while [ -d " + here + " ]; do sleep 0.1; done", "cluster-timeout", `budget "cluster"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(Options{Kubeconfig: kubeconfigFor(t, url, ca, program(c.script))})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = bundle.Repair(t.Context(), s, time.Now(), replace)
			if advisoryID(err) != c.advisory || !strings.Contains(fmt.Sprint(err), c.says) || time.Since(began) > 20*time.Second {
				t.Errorf("%q after %s: %v", advisoryID(err), time.Since(began), err)
			}
		})
	}
}

// TestNobodyElsesWordsShowSecrets: an admission webhook or a proxy that is sent
// private keys may say them back. No error and no cause of one repeats them (R13).
func TestNobodyElsesWordsShowSecrets(t *testing.T) {
	status := func(code int, reason string, body []byte) *http.Response {
		text, err := json.Marshal(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
			"message": "admission webhook denied the request: " + string(body),
			"details": map[string]any{"name": "x", "kind": "secrets", "causes": []any{map[string]any{"message": string(body)}}}})
		if err != nil {
			t.Fatal(err)
		}
		return answer(code, "application/json", string(text))
	}
	decoded := func(body []byte) []byte {
		var o object
		_ = json.Unmarshal(body, &o)
		var all []byte
		for _, v := range o.Data {
			all = append(append(all, v...), ' ')
		}
		return all
	}
	for name, say := range map[string]func(body []byte) *http.Response{
		"refused with the object":     func(b []byte) *http.Response { return status(403, "Forbidden", b) },
		"refused with the values":     func(b []byte) *http.Response { return status(422, "Invalid", decoded(b)) },
		"refused with escaped values": func(b []byte) *http.Response { return status(400, "BadRequest", fmt.Appendf(nil, "%q", decoded(b))) },
		"failed with the values":      func(b []byte) *http.Response { return status(500, "InternalError", decoded(b)) },
		"changed, with the values":    func(b []byte) *http.Response { return status(409, "Conflict", decoded(b)) },
		"a proxy's page, forbidden":   func(b []byte) *http.Response { return answer(403, "text/plain", string(decoded(b))) },
		"a proxy's page, bad gateway": func(b []byte) *http.Response { return answer(502, "text/html", string(b)) },
		"a proxy's page, no reason":   func(b []byte) *http.Response { return answer(418, "text/plain", string(decoded(b))) },
		"not acceptable":              func(b []byte) *http.Response { return answer(406, "text/plain", string(decoded(b))) },
		"content type that is a value": func(b []byte) *http.Response {
			return answer(200, "text/"+strings.Join(strings.Fields(string(decoded(b))), ""), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := spoiled(t)
			w.change(bundle.ServerTLS, func(o *object) { o.Data["tls.crt"] = []byte("garbage") }) // its key goes into a backup
			w.wire.instead = func(r *http.Request, body []byte) *http.Response {
				if writes(r) && r.Method != http.MethodPatch {
					return say(body)
				}
				return nil
			}
			before := w.versions()
			_, err := w.repair(replace) // looks through the error
			if err == nil {
				t.Error("nobody noticed")
			}
			if len(w.wire.known) < 8 {
				t.Fatalf("only %d lines of secrets are known to the test", len(w.wire.known))
			}
			w.wire.instead = nil
			w.mustBe(before)
		})
	}
}

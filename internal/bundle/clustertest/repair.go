package clustertest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"testing"
	"time"

	"creel/internal/bundle"
)

// noGateway: a repair must not race whoever is about to make the gateway, or to
// remove it.
func noGateway(t *testing.T, w World) {
	check := func(t *testing.T, target bundle.Target, says string) {
		t.Helper()
		out, err := bundle.Repair(t.Context(), target, time.Now(), bundle.RepairOptions{Replace: true})
		if err != nil || out.NotApplicable == "" || !contains(out.NotApplicable, says) || len(out.Written) > 0 {
			t.Errorf("%+v, %v; want not applicable because %q", out, err, says)
		}
	}
	t.Run("no namespace", func(t *testing.T) { check(t, w.Open(t, "nowhere"), "nowhere") })
	t.Run("no StatefulSet", func(t *testing.T) {
		p := Place{Cluster: w.Cluster, Namespace: w.Cluster.NewNamespace(t)}
		check(t, w.Open(t, p.Namespace), "openshell")
		p.sameSecrets(t, nil)
	})
	t.Run("StatefulSet being deleted", func(t *testing.T) {
		p := w.Gateway(t, Pod1, "")
		p.Patch(t, "apps", "statefulsets", "openshell", `{"metadata":{"finalizers":["example.com/hold"]}}`)
		p.Cluster.Must(t, "DELETE", p.path("apps", "statefulsets", "openshell"), nil)
		check(t, p.Target, "being deleted")
		p.sameSecrets(t, nil)
		p.Patch(t, "apps", "statefulsets", "openshell", `{"metadata":{"finalizers":null}}`)
	})
	t.Run("namespace being deleted", func(t *testing.T) {
		p := w.Gateway(t, Pod1, "")
		p.Cluster.Must(t, "DELETE", "/api/v1/namespaces/"+p.Namespace, nil)
		check(t, p.Target, "being deleted")
		// Also for who looked before.
		issued := issue(t, p.Want, time.Now())
		s, err := p.Target.Load(t.Context(), p.Want)
		if err == nil {
			err = p.Target.Apply(t.Context(), []bundle.Secret{issued[bundle.SSHHandshake]}, s)
		}
		if !isNotApplicable(err) {
			t.Errorf("a write into a namespace that is being deleted: %v", err)
		}
	})
	t.Run("gateway gone meanwhile", func(t *testing.T) {
		p := w.Gateway(t, Pod1, "")
		p.Cluster.Must(t, "DELETE", p.path("apps", "statefulsets", "openshell"), nil)
		if rolled, err := p.Target.Roll(t.Context(), []string{bundle.ServerTLS}); rolled {
			t.Errorf("a roll of nothing: %v, %v", rolled, err)
		}
	})
}

// everySubset deletes each subset of the four secrets of generation 1.
func everySubset(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	set := []string{bundle.ServerTLS, bundle.ServerCA, bundle.ClientTLS, bundle.SSHHandshake}
	if got := p.Want.Stored(); !slices.Equal(got, set) {
		t.Fatalf("the gateway needs %q", got)
	}
	if _, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	for subset := range 1 << len(set) {
		var deleted []string
		for i, name := range set {
			if subset&(1<<i) != 0 {
				deleted = append(deleted, name)
			}
		}
		p.Delete(t, deleted...)
		before := p.Secrets(t)
		out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{})
		if err != nil || out.Repaired != (subset != 0) {
			t.Fatalf("without %q: %+v, %v", deleted, out, err)
		}
		after := p.good(t)
		pair := slices.Contains(deleted, bundle.ServerCA) || slices.Contains(deleted, bundle.ClientTLS)
		for _, name := range set {
			want := slices.Contains(deleted, name) || pair && (name == bundle.ServerCA || name == bundle.ClientTLS)
			if written := !unchanged(before[name], after[name]); written != want || written != slices.Contains(out.Written, name) {
				t.Errorf("without %q: %s was written %v, and said to be %q", deleted, name, written, out.Written)
			}
			if l := after[name].Metadata.Labels; l[bundle.LabelManagedBy] != bundle.ManagedBy || l[bundle.LabelInstance] != Gateway {
				t.Errorf("%s has the labels %v", name, l)
			}
		}
		if again, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true}); err != nil || again.Repaired || len(again.Written) > 0 {
			t.Errorf("a second repair without %q: %+v, %v", deleted, again, err)
		}
		p.sameSecrets(t, after)
	}
}

// handshakes connects with what was written, as a gateway and its client do.
func handshakes(t *testing.T, w World) {
	for name, pod := range map[string]string{"generation 1": Pod1, "generation 2": Pod2} {
		t.Run(name, func(t *testing.T) {
			p := w.Gateway(t, pod, "")
			if out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil || !out.Repaired || out.Rolled {
				t.Fatalf("%+v, %v", out, err)
			}
			set := p.good(t)
			server, client := set[bundle.ServerTLS], set[bundle.ClientTLS]
			if server.Type != "kubernetes.io/tls" {
				t.Errorf("the server's secret has the type %q", server.Type)
			}
			clientCA, serverCA := client.Data["ca.crt"], server.Data["ca.crt"]
			if serverCA == nil { // generation 1: it signs itself, and the client's CA is a secret of its own
				serverCA, clientCA = server.Data["tls.crt"], set[bundle.ServerCA].Data["ca.crt"]
			}
			serving := &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(t, clientCA),
				Certificates: []tls.Certificate{pair(t, server)}}
			for _, host := range []string{"openshell." + p.Namespace + ".svc.cluster.local", "localhost", "127.0.0.1"} {
				dialing := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool(t, serverCA), ServerName: host, Certificates: []tls.Certificate{pair(t, client)}}
				if err := handshake(serving, dialing); err != nil {
					t.Errorf("handshake with %s: %v", host, err)
				}
				dialing.Certificates = nil
				if handshake(serving, dialing) == nil {
					t.Error("a client without a certificate was let in")
				}
			}
		})
	}
}

func pair(t *testing.T, s bundle.ClusterSecret) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pool(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}
	return p
}

func handshake(serving, dialing *tls.Config) error {
	l, err := tls.Listen("tcp", "127.0.0.1:0", serving)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			if err == nil {
				_, err = conn.Write([]byte("ok"))
			}
			_ = conn.Close()
		}
		served <- err
	}()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: dialing}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err == nil {
		_, err = conn.Read(make([]byte, 2))
		_ = conn.Close()
	}
	if serverErr := <-served; err == nil {
		err = serverErr
	}
	return err
}

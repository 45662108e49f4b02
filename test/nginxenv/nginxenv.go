// Package nginxenv runs a real nginx for a test, with the server blocks of a
// configuration as people write them, on ports of loopback that nobody else has.
package nginxenv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/test/require"
)

// Server is a running nginx.
type Server struct {
	// Port is the one that it listens on with TLS, on 127.0.0.1, as "localhost".
	Port int
	// Certificate is the file with its certificate, for those who should trust it.
	Certificate string
	// ErrorLog is the file with what it complains about.
	ErrorLog string
}

// patience is when a start is given up.
const patience = 10 * time.Second

// Port reserves the port of a server that is started with Start, so that its
// public URL is known before.
func Port(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Start runs nginx on a reserved port until the test ends. The configuration is
// what belongs inside the block http; in it LISTEN stands for "ssl" listening on
// the port, and CERTIFICATE and KEY for its files.
func Start(t testing.TB, l net.Listener, configuration string) *Server {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where Debian has it, and where no ordinary user's PATH leads
		_, err = os.Stat(program)
	}
	require.Feature(t, "nginx", err == nil, "install Debian's package nginx-light")
	dir := t.TempDir()
	s := &Server{Port: l.Addr().(*net.TCPAddr).Port, Certificate: filepath.Join(dir, "tls.crt"), ErrorLog: filepath.Join(dir, "error.log")}
	key := filepath.Join(dir, "tls.key")
	if err := writePair(s.Certificate, key); err != nil {
		t.Fatal(err)
	}
	for placeholder, value := range map[string]string{
		"LISTEN": fmt.Sprintf("127.0.0.1:%d ssl", s.Port), "CERTIFICATE": s.Certificate, "KEY": key,
	} {
		if !strings.Contains(configuration, placeholder) {
			t.Fatalf("the configuration has no %s:\n%s", placeholder, configuration)
		}
		configuration = strings.ReplaceAll(configuration, placeholder, value)
	}
	file := filepath.Join(dir, "nginx.conf")
	workers := "worker_processes 1;"
	if os.Geteuid() == 0 {
		workers += " user root;" // the directory is this user's
	}
	text := fmt.Sprintf(`daemon off;
%[4]s
pid %[1]s/nginx.pid;
error_log %[2]s info;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
%[3]s
}
`, dir, s.ErrorLog, configuration, workers)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, program, dir, file, l)
	return s
}

// run hands the listener over, as an upgrade of nginx does: the port is never free
// for anybody else.
func run(t testing.TB, program, dir, file string, l net.Listener) {
	t.Helper()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", file)
	cmd.Env = []string{"NGINX=3;"}
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	})
	// The kernel queues connections to the socket from the first moment; that nginx
	// answers them is what says that it is up.
	deadline := time.Now().Add(patience)
	for {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), time.Second)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte("this is no TLS\r\n\r\n"))
			n, readErr := c.Read(make([]byte, 16))
			_ = c.Close()
			if n > 0 || readErr != nil && !errors.Is(readErr, os.ErrDeadlineExceeded) {
				return
			}
		}
		select {
		case <-ended:
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Fatalf("nginx ended:\n%s%s", said.String(), log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not answer on port %s:\n%s", strconv.Itoa(l.Addr().(*net.TCPAddr).Port), said.String())
		}
	}
}

// writePair makes a certificate of localhost that signs itself.
func writePair(certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
}

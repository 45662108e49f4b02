// Command fakegateway is a gateway of OpenShell as another team would have written
// it: openshell.v1 over mTLS, plaintext or with a bearer token, its sandboxes in a
// database of its own. It shares no code with Creel's server. Like the real one it is
// told everything by OPENSHELL_* variables and, from 0.0.44 on, a TOML file. How it
// shall misbehave stands in a file beside the executable (NAME.mode, lines key=value),
// because its environment is what tests look at, or at the end of the executable
// itself, after the line "#mode", where it goes with every copy; what it did it
// appends to NAME.reached, so that a test can prove that its sabotage took place.
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	datamodelv1 "creel/api/openshell/datamodel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
)

func main() {
	exe, err := os.Executable()
	if err != nil {
		fatal(err)
	}
	mode := readMode(exe + ".mode")
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		tellVersion(mode)
		return
	}
	f, err := os.OpenFile(exe+".reached", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		fatal(err)
	}
	reached := func(what string) { _, _ = fmt.Fprintf(f, "%s pid=%d\n", what, os.Getpid()) }
	reached("started " + mode["mode"])
	mounted(mode["await"], reached)
	early(mode, reached)
	configure(mode["version"], reached)
	kept := openRecords(os.Getenv("OPENSHELL_DB_URL"), mode["format"], reached)
	if mode["mode"] == "fails-after-writing" {
		kept.save(&openshellv1.Sandbox{Metadata: &datamodelv1.ObjectMeta{Name: "of-the-new-version"}}, 0)
		reached("wrote and fails")
		fmt.Fprintln(os.Stderr, "Error: the migration cannot go on")
		os.Exit(4) // without closing the database: its log is left
	}
	l := listener(mode, reached)
	reached("bound " + mode["mode"])
	switch mode["mode"] {
	case "exits-after-binding":
		fmt.Println("listening, and leaving")
		reached(fmt.Sprintf("leaving at=%d", time.Now().UnixNano()))
		os.Exit(3)
	case "never-answers":
		accept(l, reached, func(net.Conn) {})
	case "accepts-and-closes":
		accept(l, reached, func(c net.Conn) { _ = c.Close() })
	case "http-404":
		accept(l, reached, func(c net.Conn) {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 4096))
			_, _ = fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = c.Close()
		})
	case "fork-keeps-port":
		fork(l, reached)
	}
	serve(l, mode, kept, reached)
}

// tellVersion answers --version, well or badly (mode file: tells=).
func tellVersion(mode map[string]string) {
	switch mode["tells"] {
	case "nothing":
	case "noise":
		fmt.Println("openshell-gateway of the day")
	case "never":
		wait()
	case "glibc":
		fmt.Fprintln(os.Stderr, "openshell-gateway: /lib/libc.so.6: version `GLIBC_2.39' not found (required by openshell-gateway)")
		os.Exit(1)
	default:
		fmt.Println("openshell-gateway " + mode["version"])
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "Error:", err)
	os.Exit(1)
}

func readMode(path string) map[string]string {
	mode := map[string]string{"mode": "healthy", "version": "0.0.88"}
	b, err := os.ReadFile(path)
	if err != nil {
		b = built()
	}
	for s := bufio.NewScanner(strings.NewReader(string(b))); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			mode[k] = v
		}
	}
	return mode
}

// mounted waits for a file, as a pod does for the secrets that it mounts: what of
// them does not exist keeps it from starting for ever.
func mounted(path string, reached func(string)) {
	if path == "" {
		return
	}
	reached("waits for its secrets")
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(ended)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			os.Exit(0)
		}
	}
}

// built is what was appended to the executable.
func built() []byte {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	const most = 1 << 10
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-most), most))
	if err != nil {
		return nil
	}
	_, lines, _ := bytes.Cut(tail, []byte("\n#mode\n"))
	return lines
}

// early is what goes wrong before anything is bound.
func early(mode map[string]string, reached func(string)) {
	switch mode["mode"] {
	case "inherited-listener": // the child of fork-keeps-port
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			fatal(err)
		}
		reached("keeps the port")
		accept(l, reached, func(net.Conn) {})
	case "glibc":
		name := os.Args[0]
		fmt.Fprintf(os.Stderr, "%s: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by %s)\n", name, name)
		fmt.Fprintf(os.Stderr, "%s: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.39' not found (required by %s)\n", name, name)
		os.Exit(127)
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "floods":
		line := strings.Repeat("noise and api_key=sk-canary-of-the-log ", 20)
		for range 20000 {
			fmt.Println(line)
		}
		reached("flooded")
		os.Exit(5)
	case "docker":
		fmt.Fprintln(os.Stderr, "Error: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
		os.Exit(1)
	case "binds-late":
		time.Sleep(400 * time.Millisecond) // being late is what is tested
	case "exits-later":
		time.Sleep(700 * time.Millisecond) // likewise
		fmt.Println("level=fatal msg=\"cluster state is damaged\" token=sk-canary-of-the-log")
		os.Exit(5)
	case "never-binds":
		wait()
	}
}

// wait ends with the signal that asks for it.
func wait() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	os.Exit(0)
}

func listener(mode map[string]string, reached func(string)) net.Listener {
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("OPENSHELL_BIND_ADDRESS"), os.Getenv("OPENSHELL_SERVER_PORT")))
	if err != nil {
		fatal(err)
	}
	return l
}

func accept(l net.Listener, reached func(string), answer func(net.Conn)) {
	go wait()
	for {
		c, err := l.Accept()
		if err != nil {
			fatal(err)
		}
		reached("accepted")
		answer(c)
	}
}

// fork leaves a child that has the listening socket, and ends.
func fork(l net.Listener, reached func(string)) {
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		fatal(err)
	}
	child := exe + "-child"
	if err := os.Link(exe, child); err != nil && !os.IsExist(err) {
		fatal(err)
	}
	if err := os.WriteFile(child+".mode", []byte("mode=inherited-listener\n"), 0o644); err != nil {
		fatal(err)
	}
	cmd := exec.Command(child)
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		fatal(err)
	}
	reached(fmt.Sprintf("forked child=%d", cmd.Process.Pid))
	os.Exit(6)
}

func serve(l net.Listener, mode map[string]string, kept *records, reached func(string)) {
	var options []grpc.ServerOption
	switch {
	case mode["root"] != "": // TLS is the front's
	case mode["mode"] == "foreign-certificate":
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{strange()}})))
	case os.Getenv("OPENSHELL_TLS_CERT") != "":
		options = append(options, grpc.Creds(credentials.NewTLS(ours())))
	}
	g := &gateway{mode: mode, reached: reached, kept: kept, sandboxes: kept.all()}
	options = append(options, grpc.ChainUnaryInterceptor(g.authenticate))
	s := grpc.NewServer(options...)
	openshellv1.RegisterOpenShellServer(s, g)
	inferencev1.RegisterInferenceServer(s, noRoute{})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for range ended {
			reached("asked to end")
			if mode["mode"] != "ignores-term" {
				s.Stop()
				_ = l.Close()
			}
		}
	}()
	if mode["root"] != "" {
		front(l, s, mode, reached)
		return
	}
	if err := s.Serve(l); err != nil {
		fatal(err)
	}
}

// front is what stands before a gateway in a cluster: HTTP and gRPC on one port. GET
// is answered with the status code that the mode names.
func front(l net.Listener, s *grpc.Server, mode map[string]string, reached func(string)) {
	code, err := strconv.Atoi(mode["root"])
	if err != nil {
		fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{strange()}}
	if mode["mode"] != "foreign-certificate" {
		config = ours()
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	h := &http.Server{ReadHeaderTimeout: time.Second, TLSConfig: config, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.ServeHTTP(w, r)
			return
		}
		reached("http " + r.Method + " " + r.URL.Path)
		w.WriteHeader(code)
	})}
	if err := h.ServeTLS(l, "", ""); !errors.Is(err, net.ErrClosed) {
		fatal(err)
	}
}

// ours is the TLS that the environment asks for.
func ours() *tls.Config {
	pair, err := tls.LoadX509KeyPair(os.Getenv("OPENSHELL_TLS_CERT"), os.Getenv("OPENSHELL_TLS_KEY"))
	if err != nil {
		fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if path := os.Getenv("OPENSHELL_TLS_CLIENT_CA"); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			fatal(err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			fatal(fmt.Errorf("%s holds no certificate", path))
		}
	}
	return c
}

// strange is a certificate that nobody knows.
func strange() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "openshell-server"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

package supervisor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"creel/internal/advisory"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// maxLaunch bounds launch.json; a policy has at most 256 KiB.
const maxLaunch = 4 << 20

// readLaunch reads launch.json in a sandbox's directory. The error carries the
// advisory "launch-invalid" and repeats nothing of the file, which holds tokens.
func readLaunch(dir string) (sandbox.Launch, policy.Document, error) {
	path := filepath.Join(dir, state.LaunchFile)
	f, err := os.Open(path)
	if err != nil {
		return sandbox.Launch{}, policy.Document{}, advisory.New("launch-invalid", "read launch record", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxLaunch+1))
	if err != nil {
		return sandbox.Launch{}, policy.Document{}, advisory.New("launch-invalid", "read launch record", err)
	}
	l, p, err := parseLaunch(b)
	if err == nil && filepath.Clean(l.Dir) != filepath.Clean(dir) {
		err = fmt.Errorf("it is for %s", l.Dir)
	}
	if err != nil {
		return sandbox.Launch{}, policy.Document{}, advisory.New("launch-invalid", path+" cannot be used", err)
	}
	return l, p, nil
}

// parseLaunch reads and checks a launch record and the policy in it.
func parseLaunch(b []byte) (sandbox.Launch, policy.Document, error) {
	var l sandbox.Launch
	none := policy.Document{}
	if len(b) > maxLaunch {
		return l, none, fmt.Errorf("it has more than %d MiB", maxLaunch>>20)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		// The decoder's words may quote a value.
		return l, none, fmt.Errorf("it is not the JSON of a launch record")
	}
	for _, need := range []struct{ what, value string }{
		{"id", l.ID}, {"name", l.Name}, {"gateway_socket", l.GatewaySocket}, {"dir", l.Dir}, {"executable", l.Executable}, {"relay_token", l.RelayToken},
	} {
		if need.value == "" || strings.ContainsRune(need.value, 0) {
			return l, none, fmt.Errorf("%s is missing or not valid", need.what)
		}
	}
	for _, path := range []string{l.Dir, l.GatewaySocket, l.Executable} {
		if !filepath.IsAbs(path) {
			return l, none, fmt.Errorf("path %q is not absolute", path)
		}
	}
	switch l.Spec.Restart {
	case "", sandbox.RestartAlways, sandbox.RestartOnFailure, sandbox.RestartNever:
	default:
		return l, none, fmt.Errorf("restart policy %q is not known", l.Spec.Restart)
	}
	switch l.Spec.Confinement {
	case "", sandbox.TierAuto, sandbox.TierNamespaces, sandbox.TierLandlock, sandbox.TierUnconfined:
	default:
		return l, none, fmt.Errorf("confinement %q is not known", l.Spec.Confinement)
	}
	if p := l.Spec.Dashboard.TargetPort; p < 0 || p > 65535 || p == relayPort {
		return l, none, fmt.Errorf("dashboard port %d cannot be used inside", p)
	}
	for _, a := range l.Spec.Command {
		if strings.ContainsRune(a, 0) {
			return l, none, fmt.Errorf("the command holds a NUL character")
		}
	}
	for name, value := range l.Spec.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return l, none, fmt.Errorf("environment variable %q is not valid", name)
		}
	}
	if len(l.Spec.Policy) == 0 {
		return l, none, nil
	}
	// What is enforced must be what was declared, to the byte.
	if sum := sha256.Sum256(l.Spec.Policy); hex.EncodeToString(sum[:]) != l.Spec.PolicyHash {
		return l, none, fmt.Errorf("the policy does not have the hash %.12s that was declared", l.Spec.PolicyHash)
	}
	p, err := policy.FromCanonical(l.Spec.Policy)
	return l, p, err
}

// redirection tells the gateway's socket that the launch file in a sandbox's
// directory names now, "" while it cannot be read. The file is read again only when
// it is another one.
func redirection(dir string) func() string {
	path := filepath.Join(dir, state.LaunchFile)
	var mu sync.Mutex
	var last os.FileInfo
	socket := ""
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		now, err := os.Stat(path)
		if err != nil || last != nil && os.SameFile(last, now) && last.ModTime().Equal(now.ModTime()) {
			return socket
		}
		l, _, err := readLaunch(dir)
		if err == nil {
			last, socket = now, l.GatewaySocket
		}
		return socket
	}
}

// relaySocket is where a gateway takes connections: beside its socket.
func relaySocket(socket string) string {
	return filepath.Join(filepath.Dir(socket), state.RelaySocketFile)
}

package confine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"creel/internal/budget"
	"creel/internal/sandbox"
)

// namespaceNames are the namespaces of a Box, as /proc/self/ns names them.
func namespaceNames() []string { return []string{"user", "mnt", "pid", "net", "ipc", "uts"} }

// observe looks at what is in force about this process.
func observe(p plan) (observed, error) {
	o := observed{UID: os.Getuid(), Tier: p.Tier, Denied: map[string]string{}, Setback: map[string]string{}}
	var err error
	if o.Status, err = status("self"); err != nil {
		return o, err
	}
	if o.Namespaces, err = ownNamespaces(); err != nil {
		return o, err
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0)
	o.Denied[trialCall] = denied(err, unix.EPERM)
	if p.Tier == sandbox.TierUnconfined {
		return o, nil
	}
	if o.LandlockABI, err = landlockABI(); err != nil {
		return o, fmt.Errorf("ask for Landlock: %w", err)
	}
	if p.Tier == sandbox.TierNamespaces {
		_, err = os.ReadFile(unruled)
	} else {
		_, err = os.ReadDir("/")
		ctx, cancel := budget.Context(context.Background(), budget.TCP, "try a forbidden connection")
		defer cancel()
		_, dialErr := dialLoopback(ctx, 1)
		o.Denied[trialConnect] = denied(dialErr, unix.EACCES)
	}
	o.Denied[trialFile] = denied(err, unix.EACCES)
	return o, nil
}

// denied is the refusal's text when err is the refusal looked for, else empty.
func denied(err error, want unix.Errno) string {
	if errors.Is(err, want) {
		return want.Error()
	}
	return ""
}

// status reads the fields of /proc/PID/status.
func status(pid string) (map[string]string, error) {
	f, err := os.Open(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fields := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[k] = strings.TrimSpace(v)
		}
	}
	return fields, nil
}

func ownNamespaces() (map[string]string, error) {
	out := map[string]string{}
	for _, name := range namespaceNames() {
		link, err := os.Readlink(filepath.Join("/proc/self/ns", name))
		if err != nil {
			return nil, fmt.Errorf("read namespace: %w", err)
		}
		out[name] = link
	}
	return out, nil
}

package sshd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ExecChannel is the type of a channel that runs one command without a shell.
// Its extra data is an ExecRequest as JSON; standard output is the channel's
// data, standard error its extended data, the rest as RFC 4254 says. A request that
// is too large for the packet that opens a channel (256 KiB in all) follows as the
// channel's first data; the extra data then is a Follows.
const ExecChannel = "exec@creel"

// Follows announces an ExecRequest.
type Follows struct {
	Bytes int `json:"follows"` // its length as JSON
}

// maxFollowing bounds a request as JSON, in which a character takes up to six bytes.
const maxFollowing = 8 << 20

// Limits of a request, those of OpenShell's ExecSandbox; maxTotal is half of what
// the kernel takes.
const (
	maxTotal     = 1 << 20 // command and environment
	maxArguments = 1024
	maxArgument  = 32 << 10
	maxCommand   = 256 << 10
	maxVariables = 1024
	maxSide      = 10000 // columns or rows of a terminal
)

// ExecRequest is a command to run.
type ExecRequest struct {
	Command        []string          `json:"command"`
	Workdir        string            `json:"workdir"` // inside; empty is the workspace
	Env            map[string]string `json:"env"`     // added to the sandbox's own
	TTY            bool              `json:"tty"`
	Cols           int               `json:"cols"`
	Rows           int               `json:"rows"`
	TimeoutSeconds int64             `json:"timeout_seconds"` // 0 is none
}

// ParseExec reads and checks a request.
func ParseExec(b []byte) (ExecRequest, error) {
	var r ExecRequest
	if err := json.Unmarshal(b, &r); err != nil {
		return ExecRequest{}, fmt.Errorf("read request: %w", err)
	}
	if len(r.Command) == 0 || r.Command[0] == "" {
		return ExecRequest{}, fmt.Errorf("the command is empty")
	}
	if len(r.Command) > maxArguments {
		return ExecRequest{}, fmt.Errorf("the command has %d arguments, at most %d are allowed", len(r.Command), maxArguments)
	}
	total := 0
	for _, a := range append(slices.Clone(r.Command), r.Workdir) {
		if total += len(a); len(a) > maxArgument || total > maxCommand {
			return ExecRequest{}, fmt.Errorf("the command is too long: %d KiB an argument and %d KiB in all are allowed", maxArgument>>10, maxCommand>>10)
		}
		if strings.ContainsRune(a, 0) {
			return ExecRequest{}, fmt.Errorf("the command holds a NUL character")
		}
	}
	if len(r.Env) > maxVariables {
		return ExecRequest{}, fmt.Errorf("%d environment variables are set, at most %d are allowed", len(r.Env), maxVariables)
	}
	for name, value := range r.Env {
		if !validVariable(name, value) {
			return ExecRequest{}, fmt.Errorf("environment variable %q is not valid", name)
		}
		if total += len(name) + len(value); total > maxTotal {
			return ExecRequest{}, fmt.Errorf("command and environment are too long: %d KiB in all are allowed", maxTotal>>10)
		}
	}
	if r.Cols < 0 || r.Cols > maxSide || r.Rows < 0 || r.Rows > maxSide {
		return ExecRequest{}, fmt.Errorf("a terminal of %d columns and %d rows is not possible", r.Cols, r.Rows)
	}
	if r.TimeoutSeconds < 0 || r.TimeoutSeconds > int64(1<<62/time.Second) {
		return ExecRequest{}, fmt.Errorf("a timeout of %d seconds is not possible", r.TimeoutSeconds)
	}
	return r, nil
}

// following is the length of the request that follows, 0 when b is the request.
func following(b []byte) (int, error) {
	var f Follows
	if err := json.Unmarshal(b, &f); err != nil {
		return 0, fmt.Errorf("read request: %w", err)
	}
	if f.Bytes < 0 || f.Bytes > maxFollowing {
		return 0, fmt.Errorf("a request of %d bytes is announced, at most %d are read", f.Bytes, maxFollowing)
	}
	return f.Bytes, nil
}

func validVariable(name, value string) bool {
	return name != "" && len(name) <= 256 && len(value) <= maxArgument && !strings.ContainsAny(name, "=\x00") && !strings.ContainsRune(value, 0)
}

// added is what a request adds to the sandbox's environment.
func (r ExecRequest) added() map[string]string {
	all := map[string]string{}
	if r.TTY {
		all["TERM"] = "xterm-256color"
	}
	maps.Copy(all, r.Env)
	return all
}

// environment is base with added on top, without duplicates, in a stable order.
func environment(base []string, added map[string]string) []string {
	all := map[string]string{}
	for _, pair := range base {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	maps.Copy(all, added)
	out := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, name+"="+all[name])
	}
	return out
}

// Package console is the agent that is built into Creel: a chat page and the
// small server behind it. It runs inside a sandbox, confined like any other
// agent, and knows nothing but what its environment says: it reaches a model only
// through the sandbox's inference relay and never holds a provider's credential.
// It must not import anything of the gateway or of the supervisor.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"creel/internal/agent"
	"creel/internal/credential"
	"creel/internal/sandbox"
)

// The exit codes of Main.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// settings is what the environment says.
type settings struct {
	port        int
	token       credential.Secret
	relayURL    string // no trailing slash, e.g. "http://127.0.0.1:8787/v1"
	relayToken  credential.Secret
	sandbox     string
	confinement sandbox.Confinement
	policyHash  string
	historyPath string // empty: the conversation is kept in memory only
}

// Main runs the console until ctx ends and returns an exit code: 0 after ctx
// ended, 1 when it cannot serve, 2 when its environment is wrong. It logs plain
// lines, never a token and nothing of what is said in the conversation.
func Main(ctx context.Context, getenv func(string) string, log io.Writer) int {
	s, err := readSettings(getenv)
	if err != nil {
		fmt.Fprintf(log, "console: read environment: %v\n", err)
		return exitUsage
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		fmt.Fprintf(log, "console: listen: %v\n", err)
		return exitFailed
	}
	if err := serve(ctx, s, listener, log); err != nil {
		fmt.Fprintf(log, "console: serve: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func readSettings(getenv func(string) string) (settings, error) {
	s := settings{
		port:       agent.DefaultPort,
		token:      credential.NewSecret(getenv("CREEL_DASHBOARD_TOKEN")),
		relayURL:   strings.TrimRight(getenv("OPENAI_BASE_URL"), "/"),
		relayToken: credential.NewSecret(getenv("OPENAI_API_KEY")),
		sandbox:    getenv("CREEL_SANDBOX"),
		policyHash: getenv("CREEL_POLICY_HASH"),
	}
	// Without a token anybody who reaches the port could use the agent.
	if s.token.Empty() {
		return settings{}, errors.New("CREEL_DASHBOARD_TOKEN is not set")
	}
	if p := getenv("CREEL_AGENT_PORT"); p != "" {
		port, err := strconv.Atoi(p)
		if err != nil || port < 1 || port > 65535 {
			return settings{}, fmt.Errorf("CREEL_AGENT_PORT=%q is not a number from 1 to 65535", p)
		}
		s.port = port
	}
	if s.relayURL == "" {
		s.relayURL = "http://127.0.0.1:8787/v1"
	}
	if u, err := url.Parse(s.relayURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return settings{}, errors.New("OPENAI_BASE_URL is not an http or https URL")
	}
	if c := getenv("CREEL_CONFINEMENT"); c != "" {
		if err := json.Unmarshal([]byte(c), &s.confinement); err != nil {
			return settings{}, fmt.Errorf("CREEL_CONFINEMENT: %w", err)
		}
	}
	if home := getenv("HOME"); home != "" {
		s.historyPath = filepath.Join(home, ".creel", "console-history.jsonl")
	}
	return s, nil
}

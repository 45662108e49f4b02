// Package budget names every deadline. Each external call takes its time limit
// from here, so that a wait that ends says which budget it used and what it was
// waiting for. It is a leaf.
package budget

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Name is the name of a time budget.
type Name string

// The budgets.
const (
	Probe           Name = "probe"            // one question to something that should answer at once
	TCP             Name = "tcp"              // one TCP connect on this machine
	Operation       Name = "operation"        // one ordinary call
	Heavy           Name = "heavy"            // one call that does much work
	GatewayStart    Name = "gateway-start"    // launch until ready
	GatewayStop     Name = "gateway-stop"     // SIGTERM until ended, before SIGKILL
	SandboxReady    Name = "sandbox-ready"    // create until Ready
	SandboxStop     Name = "sandbox-stop"     // SIGTERM until ended, before SIGKILL
	AgentHealthy    Name = "agent-healthy"    // started until its health endpoint answers
	Provider        Name = "provider"         // one validation request to a model provider
	InferenceIdle   Name = "inference-idle"   // silence inside a streamed model answer
	InferenceStart  Name = "inference-start"  // request sent until the first byte of the answer
	RelayOpen       Name = "relay-open"       // RelayOpen until the supervisor's stream arrives
	SessionWait     Name = "session-wait"     // waiting for a supervisor's session
	ForwardDead     Name = "forward-dead"     // silence of a forward's client until it counts as dead
	HalfClosed      Name = "half-closed"      // silence on a forwarded connection that is half closed
	Lock            Name = "lock"             // waiting for a lock that another process holds briefly
	Cluster         Name = "cluster"          // one call to a Kubernetes API
	ClusterDelete   Name = "cluster-delete"   // an object deleted until it has disappeared
	ContainerStart  Name = "container-start"  // gateway in a cluster in a container: looked after until ready
	ContainerSettle Name = "container-settle" // the same, before its container is restarted
	Rollout         Name = "rollout"          // a gateway in a cluster told to start until it serves
)

// Entry is one row of the table that `creel help budgets` prints.
type Entry struct {
	Name    Name
	Default time.Duration
	Meaning string
}

// Table lists all budgets with their defaults.
func Table() []Entry {
	return []Entry{
		{Probe, 3 * time.Second, "one question to something that should answer at once"},
		{TCP, 1 * time.Second, "one TCP connect on this machine"},
		{Operation, 30 * time.Second, "one ordinary call"},
		{Heavy, 60 * time.Second, "one call that does much work"},
		{GatewayStart, 20 * time.Second, "gateway launched until ready"},
		{GatewayStop, 10 * time.Second, "gateway asked to stop until it is killed"},
		{SandboxReady, 180 * time.Second, "sandbox created until Ready"},
		{SandboxStop, 10 * time.Second, "sandbox asked to stop until it is killed"},
		{AgentHealthy, 30 * time.Second, "agent started until its health endpoint answers"},
		{Provider, 15 * time.Second, "one validation request to a model provider"},
		{InferenceIdle, 120 * time.Second, "silence inside a streamed model answer"},
		{InferenceStart, 300 * time.Second, "model request sent until the first byte of the answer"},
		{RelayOpen, 10 * time.Second, "relay asked for until the supervisor's stream arrives"},
		{SessionWait, 15 * time.Second, "waiting for a supervisor's session"},
		{ForwardDead, 60 * time.Second, "a forward's client that does not answer until it counts as dead"},
		{HalfClosed, 300 * time.Second, "silence on a forwarded connection of which one direction has ended"},
		{Lock, 2 * time.Second, "waiting for a lock that is held briefly"},
		{Cluster, 10 * time.Second, "one call to a Kubernetes API"},
		{ClusterDelete, 10 * time.Second, "an object in a cluster deleted until it has disappeared"},
		{ContainerStart, 60 * time.Second, "gateway in a cluster in a container, started until ready; 5m0s on arm64"},
		{ContainerSettle, 30 * time.Second, "the same, until its container is restarted"},
		{Rollout, 180 * time.Second, "gateway in a cluster told to start until it serves"},
	}
}

// Variable is the environment variable that overrides a budget,
// e.g. CREEL_BUDGET_GATEWAY_START.
func (n Name) Variable() string {
	return "CREEL_BUDGET_" + strings.ToUpper(strings.ReplaceAll(string(n), "-", "_"))
}

// tcpFloor keeps a wish for haste from calling a busy machine's gateway dead.
const tcpFloor = 50 * time.Millisecond

// Of returns the duration of a budget: the environment's override if it is a
// positive duration (like "5s"), else what earlier tools' variables come to, else
// the default. TCP is never less than 50 ms.
// An unknown name panics: it is a mistake in the program.
func Of(n Name) time.Duration {
	if s := os.Getenv(n.Variable()); s != "" {
		if d, err := time.ParseDuration(s); err == nil && d > 0 {
			if n == TCP {
				d = max(d, tcpFloor)
			}
			return d
		}
	}
	for _, e := range Table() {
		if e.Name != n {
			continue
		}
		if d, given, err := n.Polls().limit(os.Getenv); given && err == nil {
			return d
		}
		return max(e.Default, n.Polls().byDefault())
	}
	panic("budget: unknown name " + string(n))
}

// Check reports the overrides in the environment that do not parse.
func Check() error {
	for _, e := range Table() {
		if _, _, err := e.Name.Polls().limit(os.Getenv); err != nil {
			return err
		}
		s := os.Getenv(e.Name.Variable())
		if s == "" {
			continue
		}
		if d, err := time.ParseDuration(s); err != nil || d <= 0 {
			return fmt.Errorf("%s=%q is not a positive duration such as 5s", e.Name.Variable(), s)
		}
	}
	return nil
}

// Expired is the cause of a context whose budget ran out.
type Expired struct {
	Budget    Name
	Limit     time.Duration
	Operation string // what was being done, with the unmet condition
}

// Error names the operation, the budget and its length.
func (e *Expired) Error() string {
	return fmt.Sprintf("%s: not done within %s (budget %q)", e.Operation, e.Limit, string(e.Budget))
}

// Timeout marks it as a time-out.
func (e *Expired) Timeout() bool { return true }

// Context bounds ctx by a budget. When the budget runs out, context.Cause is an
// *Expired that names operation.
func Context(ctx context.Context, n Name, operation string) (context.Context, context.CancelFunc) {
	d := Of(n)
	return context.WithTimeoutCause(ctx, d, &Expired{Budget: n, Limit: d, Operation: operation})
}

package execstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/host/engine"
)

// maxAnswer is above what a set in a cluster can have: an object has at most
// 1.5 MiB, which base64 makes 2.
const maxAnswer = 16 << 20

// output is what kubectl said.
type output struct {
	store      *Store
	operation  string
	stdout     []byte
	code       int
	complaints []complaint
}

// kubectl runs it with the container's kubeconfig in the gateway's namespace. An
// error means that it is not known what it did; what it complained about is in
// the output.
func (s *Store) kubectl(ctx context.Context, operation string, stdin []byte, args ...string) (output, error) {
	ctx, cancel := budget.Context(ctx, budget.Cluster, operation)
	defer cancel()
	limit := budget.Of(budget.Cluster)
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
	}
	// The engine cannot end what it started, so kubectl must end by itself, and
	// before nobody listens any more.
	limit -= min(limit/5, time.Second)
	r, err := s.o.Engine.Exec(ctx, s.o.Container, engine.Command{Stdin: stdin, Limit: maxAnswer, Args: slices.Concat([]string{
		"kubectl", "--kubeconfig=" + s.o.Kubeconfig, "--namespace=" + s.o.Namespace,
		fmt.Sprintf("--request-timeout=%dms", max(limit.Milliseconds(), 1))}, args)})
	_, advised := advisory.Of(err)
	switch {
	case err != nil && ctx.Err() != nil:
		return output{}, s.ended(ctx, operation)
	case errors.Is(err, engine.ErrTooMuch):
		return output{}, advisory.New("cluster-not-kubernetes", operation, err)
	case err != nil && !advised:
		return output{}, advisory.New("cluster-unreachable", operation, err, s.logs())
	case err != nil:
		return output{}, fmt.Errorf("%s: %w", operation, err)
	}
	out := output{store: s, operation: operation, stdout: r.Stdout, code: r.ExitCode}
	if r.ExitCode != 0 {
		out.complaints = parseComplaints(r.Stderr)
		if len(out.complaints) == 0 {
			out.complaints = []complaint{{text: fmt.Sprintf("kubectl ended with exit code %d and no word", r.ExitCode)}}
		}
	}
	return out, nil
}

// ended is the error of a call whose context ended: it took too long, or the
// caller wants no more.
func (s *Store) ended(ctx context.Context, operation string) error {
	cause := context.Cause(ctx)
	var expired *budget.Expired
	if errors.As(cause, &expired) {
		return advisory.New("cluster-timeout", "", cause, s.logs())
	}
	return fmt.Errorf("%s: %w", operation, cause)
}

// complaint is one line of kubectl's standard error.
type complaint struct {
	// reason is the API's (metav1.StatusReason); empty where kubectl speaks for
	// itself.
	reason string
	text   string
}

var (
	fromServer = regexp.MustCompile(`^Error from server(?: \((\w+)\))?: (?:error when \w+ "STDIN": )?(.*)$`)
	invalid    = regexp.MustCompile(`^The \S+ ".*" is invalid: `)
	// What kubectl and its libraries write beside their error.
	aside = regexp.MustCompile(`^(Warning: |[EWIF][0-9]{4} )`)
)

func parseComplaints(stderr []byte) []complaint {
	var found []complaint
	for line := range strings.Lines(string(stderr)) {
		line = strings.TrimSpace(line)
		m := fromServer.FindStringSubmatch(line)
		switch {
		case line == "" || aside.MatchString(line):
		case m != nil && m[1] != "":
			found = append(found, complaint{m[1], m[2]})
		case m != nil:
			found = append(found, complaint{"InternalError", m[2]})
		case invalid.MatchString(line):
			found = append(found, complaint{"Invalid", line})
		default:
			found = append(found, complaint{"", line})
		}
	}
	return found
}

// absent is the complaint that says that one object does not exist. The API has
// other "not found": of a kind of object, or of a path.
func absent(r ref) complaint {
	return complaint{"NotFound", fmt.Sprintf("%s %q not found", r.plural, r.name)}
}

// forbids reports that an object may not be looked at.
func (c complaint) forbids(r ref) bool {
	return c.reason == "Forbidden" && strings.HasPrefix(c.text, fmt.Sprintf("%s %q is forbidden: ", r.plural, r.name))
}

// only reports that there is this complaint and no other.
func (o output) only(c complaint) bool { return len(o.complaints) == 1 && o.complaints[0] == c }

// failure is the error of an output with complaints, else nil.
func (o output) failure() error {
	if o.code == 0 {
		return nil
	}
	var words []string
	id := ""
	for _, c := range o.complaints {
		words = append(words, c.text)
		if id == "" {
			id = c.advisory()
		}
	}
	if id == "" {
		id = "cluster-refused"
	}
	const some = 4
	text := redact(strings.Join(words[:min(some, len(words))], "; "))
	return advisory.New(id, o.operation, errors.New(text), o.store.hints(id)...)
}

var (
	// How every authorizer of the API begins to speak.
	notAllowed = regexp.MustCompile(`cannot [a-z]+ (resource|path) "`)
	quota      = regexp.MustCompile(`exceeded quota:|status unknown for quota:`)
)

// advisory is empty for what is no fault by itself: who wrote knows what it
// means.
func (c complaint) advisory() string {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(c.text, p) })
	}
	switch c.reason {
	case "":
	case "Conflict", "AlreadyExists":
		return ""
	case "NotFound", "MethodNotAllowed", "NotAcceptable", "UnsupportedMediaType":
		return "cluster-not-kubernetes" // the absence that was asked for is not among these
	case "Unauthorized":
		return "cluster-unauthorized"
	case "Forbidden":
		switch {
		case quota.MatchString(c.text):
			return "cluster-quota"
		case notAllowed.MatchString(c.text):
			return "cluster-forbidden"
		}
		return "cluster-refused"
	case "Timeout", "ServerTimeout", "ServiceUnavailable", "InternalError", "TooManyRequests", "Expired":
		return "cluster-unhealthy"
	default:
		return "cluster-refused"
	}
	switch {
	case has("must be logged in", "provide credentials"):
		return "cluster-unauthorized"
	case has("x509: ", "tls: ", "certificate"):
		return "cluster-tls"
	case has("deadline exceeded", "Client.Timeout", "timed out", "timeout"):
		return "cluster-timeout"
	case has("no such file or directory", "permission denied"):
		return "cluster-kubeconfig-missing"
	case has("error loading config file", "invalid configuration", "couldn't get version/kind"):
		return "cluster-kubeconfig-invalid"
	case has("doesn't have a resource type", "server gave HTTP response", "malformed HTTP"):
		return "cluster-not-kubernetes"
	}
	return "cluster-unreachable"
}

// hints are commands that help here: the cluster is inside the container.
func (s *Store) hints(id string) []string {
	switch id {
	case "cluster-forbidden":
		return []string{s.inContainer("kubectl --namespace " + s.o.Namespace + " auth can-i --list")}
	case "cluster-quota":
		return []string{s.inContainer("kubectl --namespace " + s.o.Namespace + " describe resourcequota")}
	case "cluster-refused":
		return nil
	}
	return []string{s.inContainer("kubectl get --raw /readyz"), s.logs()}
}

// advise adds to an error about what is held back the command that shows by what.
func (s *Store) advise(err error) error {
	var held *bundle.Held
	if p, ok := advisory.Of(err); ok && errors.As(err, &held) {
		p.Hints = []string{s.inContainer("kubectl --namespace " + s.o.Namespace + " " + held.Command())}
	}
	return err
}

func (s *Store) logs() string { return s.o.Engine.Program() + " logs --tail 50 " + s.o.Container }

// inContainer is a command line that runs kubectl as this package does.
func (s *Store) inContainer(line string) string {
	return s.o.Engine.Program() + " exec " + s.o.Container + " " + strings.Replace(line, "kubectl ", "kubectl "+advisory.Quote("--kubeconfig="+s.o.Kubeconfig)+" ", 1)
}

// redact takes out of a program's words what may be a secret: kubectl quotes its
// input where that does not parse, and an admission webhook can say whatever it
// was sent.
func redact(text string) string {
	const readable = 1000
	text = credential.RedactKeys(text)
	if len(text) > readable {
		text = strings.ToValidUTF8(text[:readable], "") + "…"
	}
	return text
}

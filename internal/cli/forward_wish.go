package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
)

// forwardWish is what somebody typed: [BIND:]PORT[:TARGET]. The zero value is
// nothing typed.
type forwardWish struct {
	bind   string // empty when not said
	port   int    // 0 is any
	target int    // 0 when not said
}

// sandboxAndPort tells the two apart, in either order: a sandbox's name begins with
// a letter and holds no colon. Each is empty when it was not named.
func sandboxAndPort(args []string) (name, port string, err error) {
	for _, arg := range args {
		isPort := arg != "" && (strings.Contains(arg, ":") || arg[0] >= '0' && arg[0] <= '9')
		switch {
		case arg == "":
			return "", "", errors.New("an empty word is neither a sandbox nor a port")
		case isPort && port != "":
			return "", "", fmt.Errorf("%q and %q are both ports: name one sandbox and one port", port, arg)
		case isPort:
			port = arg
		case name != "":
			return "", "", fmt.Errorf("neither %q nor %q is a port, a number between 1 and 65535", name, arg)
		default:
			name = arg
		}
	}
	return name, port, nil
}

// noPort says of a word that it is not the number of a port.
func noPort(word string) string {
	return fmt.Sprintf("%q is no port number between 1 and 65535", word)
}

// parseForward reads [BIND:]PORT[:TARGET].
func parseForward(text string) (forwardWish, error) {
	var w forwardWish
	if text == "" {
		return w, nil
	}
	wrong := func(format string, args ...any) (forwardWish, error) {
		return forwardWish{}, usage("forward-invalid", fmt.Sprintf("%q: ", text)+fmt.Sprintf(format, args...))
	}
	if strings.ContainsAny(text, "[]") {
		return wrong("only IPv4 addresses can be bound, %s or %s", dashboard.Loopback, dashboard.Everybody)
	}
	parts := strings.Split(text, ":")
	if len(parts) == 3 || len(parts) == 2 && strings.Trim(parts[0], "0123456789") != "" {
		if w.bind = parts[0]; w.bind == "localhost" {
			w.bind = dashboard.Loopback
		}
		if err := dashboard.CheckBind(w.bind); err != nil || w.bind == "" {
			return wrong("bind address %q is neither %s nor %s", w.bind, dashboard.Loopback, dashboard.Everybody)
		}
		parts = parts[1:]
	}
	if len(parts) > 2 {
		return wrong("there are too many colons")
	}
	numbers := make([]int, len(parts))
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		switch anyPort := i == 0 && len(parts) == 2 && (part == "" || part == "0"); {
		case anyPort:
		case err != nil || n < 1 || n > 65535 || part[0] == '+':
			if part == text {
				return forwardWish{}, usage("forward-invalid", noPort(text))
			}
			return wrong("%s", noPort(part))
		}
		numbers[i] = n
	}
	if w.port = numbers[0]; len(numbers) == 2 {
		w.target = numbers[1]
	}
	return w, nil
}

// wide takes --bind over.
func (w *forwardWish) wide(bind string) error {
	switch {
	case bind == "":
		return nil
	case dashboard.CheckBind(bind) != nil:
		return usageCause("forward-invalid", fmt.Errorf("--bind: %w", dashboard.CheckBind(bind)))
	case w.bind != "" && w.bind != bind:
		return usage("flag-conflict", fmt.Sprintf("--bind %s and %s:%d cannot be used together", bind, w.bind, w.port))
	}
	w.bind = bind
	return nil
}

// which names one forward of a sandbox.
type which struct {
	dashboard    bool
	port, target int
}

// in finds it in an inspection.
func (w which) in(i gateway.Inspection) gateway.Forward {
	if w.dashboard {
		return i.Dashboard
	}
	for _, f := range i.Forwards {
		if f.WantedPort == w.port && f.TargetPort == w.target {
			return f
		}
	}
	return gateway.Forward{Reason: "forward-not-bound", Error: "the gateway does not know of it"}
}

// hints are the next commands when it could not be had.
func (w which) hints(name string) []string {
	return []string{"creel forward list", fmt.Sprintf("creel forward start %s :%d", name, w.target)}
}

// on is the sandbox with the wish fulfilled. have is its dashboard's listener.
func (w forwardWish) on(s desired.Sandbox, have gateway.Forward) (desired.Sandbox, which, error) {
	spec, err := s.Spec(false) // of its dashboard the port inside alone matters here
	if err != nil {
		return s, which{}, err
	}
	page := spec.Dashboard.TargetPort
	nothing := w.port == 0 && w.target == 0
	named := slices.IndexFunc(s.Forwards, func(f desired.Forward) bool {
		return f.Port == w.port && (w.port != 0 || f.Target() == w.target)
	})
	board := page != 0 && (nothing || w.target == page || w.target == 0 && named < 0 && slices.Contains([]int{page, s.Dashboard.Port, have.Port}, w.port))
	switch {
	case nothing && !board:
		return s, which{}, usage("forward-invalid", fmt.Sprintf("sandbox %s has no dashboard: name a port", s.Name), "creel forward start "+s.Name+" PORT")
	case board:
		s.Dashboard.Stopped = false
		if !nothing || w.bind != "" {
			s.Dashboard.Bind = w.bind // said to be narrow it stays so, whatever else would widen it
		}
		if !nothing {
			s.Dashboard.Port = w.port
		}
		return s, which{dashboard: true, target: page}, nil
	}
	f := desired.Forward{Port: w.port, Bind: said(w.bind), TargetPort: w.target}
	if f.TargetPort == f.Port {
		f.TargetPort = 0
	}
	s.Forwards = slices.Clone(s.Forwards)
	switch {
	case named < 0:
		s.Forwards = append(s.Forwards, f)
	case s.Forwards[named].Target() != f.Target():
		return s, which{}, usage("forward-port-used", fmt.Sprintf("port %d of this machine leads to port %d of sandbox %s already, not to port %d",
			f.Port, s.Forwards[named].Target(), s.Name, f.Target()), fmt.Sprintf("creel forward stop %s %d", s.Name, f.Port))
	default:
		s.Forwards[named] = f
	}
	return s, which{port: f.Port, target: f.Target()}, nil
}

// said is a bind address as it is recorded: the usual one is left out.
func said(bind string) string {
	if bind == dashboard.Loopback {
		return ""
	}
	return bind
}

// without is the sandbox without what listens, or should, on a port.
func without(s desired.Sandbox, have gateway.Inspection, port int) (desired.Sandbox, bool) {
	at := func(declared int, matches func(gateway.Forward) bool) bool {
		return declared == port || declared == 0 && slices.ContainsFunc(have.Forwards, func(f gateway.Forward) bool {
			return f.Port == port && f.WantedPort == 0 && matches(f)
		})
	}
	forwards := slices.DeleteFunc(slices.Clone(s.Forwards), func(d desired.Forward) bool {
		return at(d.Port, func(f gateway.Forward) bool { return f.TargetPort == d.Target() })
	})
	stray := slices.ContainsFunc(have.Forwards, func(f gateway.Forward) bool { return f.Port == port })
	switch {
	case len(forwards) < len(s.Forwards):
		s.Forwards = forwards
		return s, true
	case stray: // the gateway has it, though it is not recorded: setting what is recorded ends it
		return s, true
	case have.Dashboard.TargetPort != 0 && (have.Dashboard.Port == port || s.Dashboard.Port == port):
		s.Dashboard.Stopped = true
		return s, true
	}
	return s, false
}

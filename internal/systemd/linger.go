package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"creel/internal/budget"
	"creel/internal/health"
)

// Linger tells whether the user's manager runs from boot on, without a login
// session. OK is on, Failed is positively off; why says how that is known. The
// system's manager needs none.
func (m *Manager) Linger(ctx context.Context) (v health.Verdict, why string) {
	if m.System {
		return health.OK, "not needed: the system's manager runs from boot on"
	}
	out, err := m.run(ctx, budget.Probe, "loginctl", "--no-pager", "show-user", strconv.Itoa(m.UID), "--property=Linger")
	switch answer := properties(out)["Linger"]; {
	case err == nil && answer == "yes":
		return health.OK, "on"
	case err == nil && answer == "no":
		return health.Failed, "off"
	case err == nil:
		return health.Unknown, fmt.Sprintf("loginctl answers %.80q", out)
	}
	// logind knows no user who neither is logged in nor lingers. Its memory is a file.
	var failure *Failure
	name, known := m.user()
	if errors.As(err, &failure) && known {
		if _, missing := os.Stat(filepath.Join(m.lingerDir(), name)); errors.Is(missing, os.ErrNotExist) {
			return health.Failed, "off: " + failure.Said
		}
	}
	return health.Unknown, err.Error()
}

// SetLinger switches lingering on. For the user's own manager logind permits that
// to everybody on most machines.
func (m *Manager) SetLinger(ctx context.Context) error {
	// By number: without one loginctl takes the user of the session, which su and
	// sudo leave as it was.
	_, err := m.run(ctx, budget.Operation, "loginctl", "--no-pager", "--no-ask-password", "enable-linger", strconv.Itoa(m.UID))
	return err
}

// LingerCommand is what somebody with the right to it types.
func (m *Manager) LingerCommand(switchOn bool) string {
	verb := "disable-linger"
	if switchOn {
		verb = "enable-linger"
	}
	if name, known := m.user(); known {
		return "sudo loginctl " + verb + " " + name
	}
	return fmt.Sprintf("sudo loginctl %s %d", verb, m.UID)
}

func (m *Manager) user() (string, bool) {
	u, err := user.LookupId(strconv.Itoa(m.UID))
	if err != nil {
		return "", false
	}
	return u.Username, true
}

func (m *Manager) lingerDir() string {
	if m.LingerDir != "" {
		return m.LingerDir
	}
	return "/var/lib/systemd/linger"
}

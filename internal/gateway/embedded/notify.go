package embedded

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/gateway/evidence"
	"creel/internal/health"
	"creel/internal/state"
)

// watchdogShare is how many signs of life a service manager gets in the time after
// which it would miss one.
const watchdogShare = 3

// herald tells the service manager that started the daemon how it is, as
// sd_notify(3) has it. Without a manager it says nothing and asks nothing.
type herald struct {
	managed  bool
	watchdog time.Duration // 0: it watches nothing
	log      *slog.Logger
	// ask asks the daemon itself what anybody would be asked for a proof of health.
	ask func(ctx context.Context, e endpoint, id string) sign
}

// sign is what the daemon answered itself.
type sign struct {
	evidence.Chain
	// lapsed says which certificate ended, where that is why it did not let itself in.
	// Starting it anew would not help, and supervisors and dashboards need none.
	lapsed string
}

// alive reports whether the daemon is vouched for.
func (s sign) alive() bool { return s.Verdict == health.OK || s.lapsed != "" }

func newHerald(g state.Gateway, own bundle.Material, log *slog.Logger) *herald {
	h := &herald{managed: isManaged(), log: log}
	material := own
	h.ask = func(ctx context.Context, e endpoint, id string) sign {
		// The server's certificate is renewed while it serves, and so is the client's.
		// Those of another authority are for the next start.
		if m, err := loadMaterial(ctx, g); err == nil && bytes.Equal(m.CAPEM, own.CAPEM) {
			material = m
		}
		var s sign
		evidence.Ask(ctx, &s.Chain, evidence.Target{Endpoint: e.domain(), Access: gateway.Access{TLS: material.ClientConfig(bundle.LocalName)}, InstanceID: id})
		s.Conclude()
		if s.Reason == "gateway-certificate-invalid" || s.Reason == "gateway-certificate-refused" {
			s.lapsed = material.Lapsed(time.Now())
		}
		return s
	}
	if !h.managed {
		return h
	}
	var err error
	if h.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("service manager's watchdog", "error", err)
	}
	return h
}

func isManaged() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

func (h *herald) say(state string) {
	if !h.managed {
		return
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		h.log.Warn("service manager not told", "error", err)
	}
}

// status is a line for people.
func (h *herald) status(format string, args ...any) {
	h.say("STATUS=" + strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}

// vouch says that the daemon is ready once it answers the whole chain of questions
// over its own endpoint, and that it lives whenever it does so again. A daemon that
// does not answer is not vouched for: the manager then starts it anew, and sandboxes
// go on. It returns when ctx has ended.
func (h *herald) vouch(ctx context.Context, e endpoint, id string) {
	if !h.managed {
		return
	}
	for {
		c := h.ask(ctx, e, id)
		if ctx.Err() != nil {
			return
		}
		if c.alive() {
			h.say(daemon.SdNotifyReady + "\n" + h.serving(e, c))
			break
		}
		h.status("does not answer itself yet: %s", credential.Redact(c.Message))
		if pause(ctx, nil) != nil {
			return
		}
	}
	if h.watchdog == 0 {
		return
	}
	ticker := time.NewTicker(h.watchdog / watchdogShare)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch c := h.ask(ctx, e, id); {
		case ctx.Err() != nil:
			return
		case c.alive():
			h.say(daemon.SdNotifyWatchdog + "\n" + h.serving(e, c))
		default:
			h.log.Warn("the gateway does not answer itself", "reason", c.Reason, "message", credential.Redact(c.Message))
			h.status("does not answer itself: %s", credential.Redact(c.Message))
		}
	}
}

// serving is the line for people while the daemon is vouched for.
func (h *herald) serving(e endpoint, s sign) string {
	line := "STATUS=serves " + e.domain().URL()
	if s.lapsed != "" {
		line += ", and lets nobody in: " + s.lapsed + `; "creel gateway secrets repair" issues it again`
	}
	return line
}

// leaves says that the daemon begins to end.
func (h *herald) leaves() {
	h.say(daemon.SdNotifyStopping + "\nSTATUS=ending; sandboxes go on")
}

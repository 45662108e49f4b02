package embedded

import (
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
	ask func(ctx context.Context, e endpoint, id string) evidence.Chain
}

func newHerald(material bundle.Material, log *slog.Logger) *herald {
	h := &herald{managed: isManaged(), log: log}
	h.ask = func(ctx context.Context, e endpoint, id string) evidence.Chain {
		var c evidence.Chain
		evidence.Ask(ctx, &c, evidence.Target{Endpoint: e.domain(), Access: gateway.Access{TLS: material.ClientConfig(bundle.LocalName)}, InstanceID: id})
		c.Conclude()
		return c
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
		if c.Verdict == health.OK {
			break
		}
		h.status("does not answer itself yet: %s", credential.Redact(c.Message))
		if pause(ctx, nil) != nil {
			return
		}
	}
	serves := "serves " + e.domain().URL()
	h.say(daemon.SdNotifyReady + "\nSTATUS=" + serves)
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
		case c.Verdict == health.OK:
			h.say(daemon.SdNotifyWatchdog + "\nSTATUS=" + serves)
		default:
			h.log.Warn("the gateway does not answer itself", "reason", c.Reason, "message", credential.Redact(c.Message))
			h.status("does not answer itself: %s", credential.Redact(c.Message))
		}
	}
}

// leaves says that the daemon begins to end.
func (h *herald) leaves() {
	h.say(daemon.SdNotifyStopping + "\nSTATUS=ending; sandboxes go on")
}

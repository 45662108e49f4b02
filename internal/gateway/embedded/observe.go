package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/evidence"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

// Observe asks the chain: lock, marker, process, TCP, TLS, refusal of a stranger,
// Health, identity. What broke decides; what comes after it is not asked.
func (r *Runtime) Observe(ctx context.Context) gateway.Observation {
	var c evidence.Chain
	o := gateway.Observation{}
	m, process, absent := r.askProcess(&c)
	o.Absent = absent
	o.Endpoint = m.Endpoint.domain()
	if o.Endpoint.Port == 0 {
		o.Endpoint, _ = launch.ReadEndpoint(r.cfg.Gateway)
	}
	if c.Broken() {
		c.Skip(evidence.TCP, evidence.TLS, evidence.Refusal, evidence.Health, evidence.Identity)
	} else {
		o.Identity = r.askEndpoint(ctx, &c, m, process)
	}
	c.Conclude()
	o.Verdict, o.Reason, o.Message, o.Evidence = c.Verdict, c.Reason, c.Message, c.Evidence
	record, _, recordErr := r.records()
	problem := r.unusable(ctx, absent)
	switch {
	case problem != nil:
		o.Reason, o.Message, o.Hints = problem.ID, o.Message+", and none can start: "+problem.Error(), problem.Commands()
		return o
	case absent && record != nil:
		o.Message += fmt.Sprintf("; an upgrade %s was interrupted, which the next start finishes", upgrade.Between(record.From, record.To))
	}
	if o.Verdict != health.OK {
		if a, ok := advisory.Lookup(o.Reason); ok {
			o.Hints = a.Commands
		}
		return o
	}
	o.Message = fmt.Sprintf("gateway %s answers at %s:%d (pid %d)", r.cfg.Gateway.Name, o.Endpoint.Host, o.Endpoint.Port, m.PID)
	if p, ok := advisory.Of(recordErr); ok {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: p.ID, Message: p.Error()})
		o.Hints = p.Commands()
	} else if record != nil {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-upgrade-unfinished",
			Message: fmt.Sprintf("an upgrade %s was interrupted; the gateway is healthy", upgrade.Between(record.From, record.To))})
		o.Hints = []string{"creel gateway start"}
	}
	if o.Drift = r.drift(o); len(o.Drift) > 0 {
		a, _ := advisory.Lookup("gateway-drifted")
		o.Hints = append(o.Hints, a.Commands...)
	}
	return o
}

// unusable is what keeps a daemon from starting, when none runs and that is known.
// After an upgrade that was interrupted the database may be of either side, which the
// next start settles.
func (r *Runtime) unusable(ctx context.Context, absent bool) *advisory.Problem {
	if !absent {
		return nil
	}
	record, _, err := r.records()
	if err == nil && record == nil && r.cfg.Usable != nil {
		err = r.cfg.Usable(ctx)
	}
	if _, explained := advisory.Of(err); !explained {
		err = r.secretsGood(ctx)
	}
	problem, _ := advisory.Of(err)
	return problem
}

// askProcess answers the process link: the lock is held, and by the process that
// the marker names. absent is true only when the lock is free.
func (r *Runtime) askProcess(c *evidence.Chain) (m marker, p host.Process, absent bool) {
	g := r.cfg.Gateway
	probe, start := "lock "+state.DaemonLockFile, time.Now()
	held, holder, err := state.Held(g.File(state.DaemonLockFile))
	took := time.Since(start)
	if err != nil {
		c.Break(evidence.Process, probe, health.Unknown, "gateway-unknown", "whether a gateway runs could not be asked: "+err.Error(), took)
		return m, p, false
	}
	m, markerErr := readMarker(g)
	if !held {
		message := "no gateway process runs"
		if markerErr == nil {
			message += fmt.Sprintf("; the one with pid %d ended without saying so", m.PID)
		}
		c.Break(evidence.Process, probe, health.Failed, "gateway-not-running", message, took)
		return m, p, true
	}
	c.Hold(probe, "held", took)

	probe, start = "marker "+state.MarkerFile, time.Now()
	switch {
	case errors.Is(markerErr, os.ErrNotExist):
		message := "a gateway process is starting or stopping"
		if holder.PID != 0 {
			message += fmt.Sprintf(" (pid %d)", holder.PID)
		}
		c.Break(evidence.Process, probe, health.Failed, "gateway-not-ready", message, time.Since(start))
		return marker{}, p, false
	case markerErr != nil:
		reason, v := "gateway-unknown", health.Unknown
		if a, ok := advisory.Of(markerErr); ok {
			reason, v = a.ID, health.Failed
		}
		c.Break(evidence.Process, probe, v, reason, markerErr.Error(), time.Since(start))
		return marker{}, p, false
	}
	c.Hold(probe, "instance "+m.InstanceID, time.Since(start))

	probe, start = fmt.Sprintf("process %d", m.PID), time.Now()
	p, err = host.Lookup(m.PID)
	took = time.Since(start)
	switch host.StandingOf(p, err, m.ProcessStart) {
	case host.Ended:
		// Its first thread has ended; the lock goes with the last.
		c.Break(evidence.Process, probe, health.Failed, "gateway-not-ready", fmt.Sprintf("process %d is ending", m.PID), took)
	case host.Nobody, host.Another:
		c.Break(evidence.Process, probe, health.Failed, "gateway-marker-stale",
			fmt.Sprintf("the lock is held, and not by the process that %s names", state.MarkerFile), took)
	case host.Unseen:
		c.Break(evidence.Process, probe, health.Unknown, "gateway-unknown", "the process could not be looked at: "+err.Error(), took)
	case host.Halted:
		c.Break(evidence.Process, probe, health.Failed, "gateway-hung", fmt.Sprintf("process %d is stopped by a signal and answers nothing", p.PID), took)
	default:
		c.Hold(probe, "alive, start time fits", took)
	}
	return m, p, false
}

func (r *Runtime) askEndpoint(ctx context.Context, c *evidence.Chain, m marker, p host.Process) gateway.Identity {
	start := time.Now()
	material, err := loadMaterial(ctx, r.cfg.Gateway)
	if err != nil {
		reason := "secrets-unknown"
		if a, ok := advisory.Of(err); ok {
			reason = a.ID
		}
		// Without the client certificate the question cannot be put: that says
		// nothing about the gateway.
		c.Break("our certificates", "bootstrap secrets", health.Unknown, reason, err.Error(), time.Since(start))
		c.Skip(evidence.TCP, evidence.TLS, evidence.Refusal, evidence.Health, evidence.Identity)
		return gateway.Identity{}
	}
	return evidence.Ask(ctx, c, evidence.Target{
		Endpoint:   m.Endpoint.domain(),
		Access:     gateway.Access{TLS: material.ClientConfig(bundle.LocalName)},
		InstanceID: m.InstanceID,
		Holder: func() string {
			if u, ok := host.PortHolder(m.Endpoint.Port); ok && u.PID != p.PID {
				return u.String()
			}
			return ""
		},
	})
}

// drift compares what runs with what would be started now.
func (r *Runtime) drift(o gateway.Observation) []string {
	var d []string
	if mine := version.BuildID(); mine != "" && o.Identity.BuildID != mine {
		d = append(d, fmt.Sprintf("the running gateway is another build of creel (version %s, build %.12s; this is %s, build %.12s)",
			o.Identity.Version, o.Identity.BuildID, version.Version(), mine))
	}
	if r.cfg.PortExplicit && r.cfg.Port != 0 && r.cfg.Port != o.Endpoint.Port {
		d = append(d, fmt.Sprintf("it listens on port %d, wanted is %d", o.Endpoint.Port, r.cfg.Port))
	}
	return d
}

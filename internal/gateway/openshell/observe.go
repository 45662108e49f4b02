package openshell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/evidence"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

// Observe asks the chain: process, TCP, TLS, Health, identity. What broke decides;
// what comes after it is not asked.
func (r *Runtime) Observe(ctx context.Context) gateway.Observation {
	o, _ := r.observe(ctx)
	return o
}

// observe also returns the process that was asked about; its PID is 0 when there is
// none.
func (r *Runtime) observe(ctx context.Context) (gateway.Observation, marker) {
	var c evidence.Chain
	o := gateway.Observation{}
	m, absent := r.askProcess(&c)
	o.Absent = absent
	o.Endpoint = r.Endpoint()
	if m.PID != 0 {
		o.Endpoint = m.endpoint()
	}
	t := evidence.Target{Endpoint: o.Endpoint, Holder: func() string { return r.holder(o.Endpoint.Port, m.PID) },
		Identify: func(version string) (gateway.Identity, evidence.Finding) { return r.identify(m, version) }}
	if !c.Broken() {
		start := time.Now()
		var err error
		if t.Access, err = r.access(ctx, m); err != nil {
			reason := "secrets-unknown"
			if a, ok := advisory.Of(err); ok {
				reason = a.ID
			}
			// Without the client certificate the question cannot be put: that says
			// nothing about the gateway.
			c.Break("our certificates", "bootstrap secrets", health.Unknown, reason, err.Error(), time.Since(start))
		}
	}
	if c.Broken() {
		links := t.Links()
		if !o.Endpoint.Plaintext && t.Access.TLS == nil {
			links = slices.Insert(links, 1, evidence.TLS)
		}
		c.Skip(links...)
	} else {
		o.Identity = evidence.Ask(ctx, &c, t)
	}
	if m.PID != 0 && !o.Absent {
		// The process may have ended while it was asked: then that is the answer.
		o.Absent = r.endedMeanwhile(&c, m)
	}
	c.Conclude()
	o.Verdict, o.Reason, o.Message, o.Evidence = c.Verdict, c.Reason, c.Message, c.Evidence
	if record, _, err := r.records(); o.Absent {
		if p, ok := advisory.Of(err); ok {
			o.Reason, o.Message, o.Hints = p.ID, o.Message+", and none can start: "+p.Error(), p.Commands()
			return o, m
		} else if record != nil {
			o.Message += fmt.Sprintf("; an upgrade %s was interrupted, which the next start finishes", upgrade.Between(record.From, record.To))
		}
	}
	if o.Verdict != health.OK {
		if a, ok := advisory.Lookup(o.Reason); ok {
			o.Hints = a.Commands
		}
		return o, m
	}
	o.Message = fmt.Sprintf("gateway %s answers at %s (pid %d, OpenShell %s)", r.cfg.Gateway.Name, o.Endpoint.URL(), m.PID, o.Identity.Version)
	o.Drift = r.drift(m)
	o.Caveats = append(o.Caveats, r.unfinished()...)
	if m.Plaintext {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-plaintext",
			Message: "the gateway serves in plaintext: every process of this machine may command it"})
	}
	if err := client.CheckVersion(o.Identity.Version); err != nil {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-version-unsupported", Message: err.Error()})
	}
	return o, m
}

// endedMeanwhile looks at the process again after the endpoint was asked.
func (r *Runtime) endedMeanwhile(c *evidence.Chain, m marker) bool {
	p, err := host.Lookup(m.PID)
	if !errors.Is(err, host.ErrNoProcess) && (err != nil || p.Start == m.ProcessStart && !p.Gone()) {
		return false
	}
	c.Override(evidence.Process, fmt.Sprintf("process %d", m.PID), health.Failed, "gateway-not-running",
		fmt.Sprintf("process %d ended while it was asked", m.PID))
	return true
}

// askProcess answers the process link from the marker, or, where there is none,
// from the process that holds the recorded port and proves to be ours.
func (r *Runtime) askProcess(c *evidence.Chain) (m marker, absent bool) {
	probe, start := "marker "+state.ProcessFile, time.Now()
	m, err := readMarker(r.cfg.Gateway)
	took := time.Since(start)
	switch {
	case lost(err):
		if m, found := r.candidate(); found {
			c.Hold(probe, fmt.Sprintf("absent; process %d holds port %d and has this gateway's database", m.PID, m.Port), time.Since(start))
			return m, evidence.AskProcess(c, m.PID, m.ProcessStart)
		}
		if errors.Is(err, fs.ErrNotExist) {
			c.Break(evidence.Process, probe, health.Failed, "gateway-not-running", "no gateway process was started", took)
			return marker{}, true
		}
		if r.nobodyListens() {
			c.Break(evidence.Process, probe, health.Failed, "gateway-not-running", "nobody listens on the recorded port; "+err.Error(), took)
			return marker{}, true
		}
		fallthrough
	case err != nil:
		reason, v := "gateway-unknown", health.Unknown
		if a, ok := advisory.Of(err); ok {
			reason = a.ID
		}
		c.Break(evidence.Process, probe, v, reason, err.Error(), took)
		return marker{}, false
	}
	c.Hold(probe, fmt.Sprintf("pid %d, port %d", m.PID, m.Port), took)
	return m, evidence.AskProcess(c, m.PID, m.ProcessStart)
}

// lost reports that there is no marker that could name a process. One of a newer
// Creel does name it, and is not ours to read.
func lost(err error) bool {
	p, ok := advisory.Of(err)
	return errors.Is(err, fs.ErrNotExist) || ok && p.ID == "gateway-marker-invalid"
}

// nobodyListens reports that the port where the gateway last served is free.
func (r *Runtime) nobodyListens() bool {
	last, err := launch.ReadEndpoint(r.cfg.Gateway)
	if err != nil {
		return false
	}
	_, held := host.PortHolder(last.Port)
	return !held
}

// candidate is a process that may be adopted: it listens on the recorded port, and
// its own environment names this gateway's database and that port, which nobody
// else's process does.
func (r *Runtime) candidate() (marker, bool) {
	last, err := launch.ReadEndpoint(r.cfg.Gateway)
	if err != nil {
		return marker{}, false
	}
	u, held := host.PortHolder(last.Port)
	if !held || u.PID < 2 {
		return marker{}, false
	}
	p, err := host.Lookup(u.PID)
	if err != nil {
		return marker{}, false
	}
	environment, err := processEnvironment(u.PID)
	if err != nil || !slices.Contains(environment, "OPENSHELL_DB_URL="+r.databaseURL()) ||
		!slices.Contains(environment, "OPENSHELL_SERVER_PORT="+strconv.Itoa(last.Port)) {
		return marker{}, false
	}
	binary, err := os.Readlink("/proc/" + strconv.Itoa(u.PID) + "/exe")
	if err != nil {
		return marker{}, false
	}
	slices.Sort(environment)
	return marker{Mark: launch.MarkOf(r.cfg.Gateway.Name, u.PID, p.Start, time.Time{}), Driver: driverName, Port: last.Port,
		Plaintext:       !slices.ContainsFunc(environment, func(e string) bool { return strings.HasPrefix(e, "OPENSHELL_TLS_CERT=") }),
		EnvironmentHash: hash(environment, r.configOf(environment)), Binary: strings.TrimSuffix(binary, deleted)}, true
}

// processEnvironment is what a process was started with; only its own user may read it.
// A process shows none while it is being executed and after it has ended: that is an
// error, not a process that was started with nothing.
func processEnvironment(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("process %d does not show its environment", pid)
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00"), nil
}

// holder names who listens on the port if that is not the gateway.
func (r *Runtime) holder(port, pid int) string {
	if u, ok := host.PortHolder(port); ok && u.PID != pid {
		return u.String()
	}
	return ""
}

// identify says whether the process that we know is the one that answered. With
// TLS the certificate of our own authority proves it even where /proc does not
// show who listens.
func (r *Runtime) identify(m marker, version string) (gateway.Identity, evidence.Finding) {
	who := gateway.Identity{Gateway: r.cfg.Gateway.Name, PID: m.PID, StartedAt: m.StartedAt, Version: version}
	ours, err := host.Listens(m.PID, m.Port)
	if ours {
		return who, evidence.Finding{Verdict: health.OK, Message: fmt.Sprintf("process %d holds the port, version %s", m.PID, version)}
	}
	u, held := host.PortHolder(m.Port)
	switch {
	case err == nil && held && u.PID != 0:
		return gateway.Identity{}, evidence.Finding{Verdict: health.Failed, Reason: "gateway-not-ours",
			Message: fmt.Sprintf("port %d is held by %s, not by process %d", m.Port, u, m.PID)}
	case m.Plaintext:
		return gateway.Identity{}, evidence.Finding{Verdict: health.Unknown, Reason: "gateway-unknown",
			Message: fmt.Sprintf("who holds port %d cannot be seen, and in plaintext nothing else tells", m.Port)}
	}
	return who, evidence.Finding{Verdict: health.OK, Message: "its certificate is of our own authority, version " + version}
}

// deleted is what the kernel adds to the name of an executable that was removed or
// replaced.
const deleted = " (deleted)"

// drift compares what runs with what would be started now. The program is not asked
// for its version: what it told when it was launched holds while it is the same file.
func (r *Runtime) drift(m marker) []string {
	var d []string
	binary, err := Find(r.cfg.Getenv)
	exe, exeErr := os.Readlink("/proc/" + strconv.Itoa(m.PID) + "/exe")
	replaced := exeErr == nil && strings.HasSuffix(exe, deleted)
	switch {
	case replaced:
		d = append(d, "its executable was replaced or removed on disk")
	case err == nil && binary != m.Binary:
		d = append(d, fmt.Sprintf("it runs %s, %s would be started", m.Binary, binary))
	}
	if r.cfg.PortExplicit && r.cfg.Port != 0 && r.cfg.Port != m.Port {
		return append(d, fmt.Sprintf("it listens on port %d, wanted is %d", m.Port, r.cfg.Port))
	}
	if err != nil || len(d) > 0 {
		return d // what another program is told is another thing
	}
	told := ""
	if known := r.served(); known != nil {
		told = known.Told
	}
	if want, err := r.settings(binary, m.Port, told); err == nil && hash(want.Environment, want.Config) != m.EnvironmentHash {
		d = append(d, "it was started with other settings than the ones wanted now")
	}
	return d
}

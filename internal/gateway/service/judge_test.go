package service

import (
	"errors"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/systemd"
)

// Every fact on its own is enough for a service not to be called kept; what could not
// be asked is unknown, and what failed goes before it.
func TestJudge(t *testing.T) {
	const path = "/home/ada/.config/systemd/user/creel-gateway-creel.service"
	good := func() facts {
		return facts{gateway: "creel", record: &record{Version: 1, Manager: "user", Unit: UnitName("creel"), Path: path}, file: ours,
			state:  systemd.State{Load: "loaded", Active: "active", Sub: "running", Result: "success", File: "enabled", Path: path, MainPID: 42},
			linger: health.OK, lingerWhy: "on", seen: gateway.Observation{Verdict: health.OK, Identity: gateway.Identity{PID: 42}}}
	}
	for name, c := range map[string]struct {
		change  func(*facts)
		verdict health.Verdict
		reason  string
	}{
		"good":                    {func(*facts) {}, health.OK, ""},
		"drop-ins are the user's": {func(f *facts) { f.state.DropIns = []string{"/x.conf"} }, health.OK, ""},
		"no record":               {func(f *facts) { f.record = nil }, health.Failed, "service-not-installed"},
		"unreadable record":       {func(f *facts) { f.record, f.problem = nil, errors.New("it is damaged") }, health.Unknown, "service-unknown"},
		"file gone":               {func(f *facts) { f.file = missing }, health.Failed, "service-unit-missing"},
		"file edited":             {func(f *facts) { f.file = edited }, health.Failed, "service-unit-edited"},
		"file foreign":            {func(f *facts) { f.file = foreign }, health.Failed, "service-unit-foreign"},
		"file for another state":  {func(f *facts) { f.file = another }, health.Failed, "service-unit-foreign"},
		"file unreadable":         {func(f *facts) { f.file, f.fileErr = unread, errors.New("permission denied") }, health.Unknown, "service-unknown"},
		"no systemd":              {func(f *facts) { f.away = advisory.New("service-no-systemd", "process 1 is init", nil) }, health.Failed, "service-no-systemd"},
		"systemd unknown":         {func(f *facts) { f.away = errors.New("permission denied") }, health.Unknown, "service-unknown"},
		"no answer":               {func(f *facts) { f.stateErr = errors.New("timed out") }, health.Unknown, "service-manager-unreachable"},
		"masked":                  {func(f *facts) { f.state.Load = "masked" }, health.Failed, "service-masked"},
		"not loaded":              {func(f *facts) { f.state.Load = "not-found" }, health.Failed, "service-unit-missing"},
		"does not parse":          {func(f *facts) { f.state.Load = "bad-setting" }, health.Failed, "service-unit-foreign"},
		"another file":            {func(f *facts) { f.state.Path = "/etc/x.service" }, health.Failed, "service-unit-foreign"},
		"stale":                   {func(f *facts) { f.state.Stale = true }, health.Failed, "service-unit-stale"},
		"disabled":                {func(f *facts) { f.state.File = "disabled" }, health.Failed, "service-not-enabled"},
		"only linked at run time": {func(f *facts) { f.state.File = "enabled-runtime" }, health.Failed, "service-not-enabled"},
		"inactive": {func(f *facts) {
			f.state.Active, f.state.MainPID, f.seen = "inactive", 0, gateway.Observation{Verdict: health.Failed}
		}, health.Failed, "service-not-active"},
		"inactive, and another runs": {func(f *facts) { f.state.Active, f.state.MainPID = "inactive", 0 }, health.Failed, "service-other-process"},
		"starting":                   {func(f *facts) { f.state.Active, f.seen = "activating", gateway.Observation{} }, health.Failed, "service-not-active"},
		"another process":            {func(f *facts) { f.state.MainPID = 43 }, health.Failed, "service-other-process"},
		"no process":                 {func(f *facts) { f.state.MainPID = 0 }, health.Failed, "service-other-process"},
		"gateway not proven": {func(f *facts) {
			f.seen = gateway.Observation{Verdict: health.Failed, Identity: gateway.Identity{PID: 42}}
		}, health.Unknown, "service-unknown"},
		"identity not known":         {func(f *facts) { f.seen.Identity.PID, f.state.MainPID = 0, 0 }, health.Unknown, "service-unknown"},
		"no lingering":               {func(f *facts) { f.linger = health.Failed }, health.Failed, "service-linger-off"},
		"lingering unknown":          {func(f *facts) { f.linger = health.Unknown }, health.Unknown, "service-unknown"},
		"failed goes before unknown": {func(f *facts) { f.file, f.linger = unread, health.Failed }, health.Failed, "service-linger-off"},
	} {
		f := good()
		c.change(&f)
		got := judge(f, manager(false))
		if got.Verdict != c.verdict || got.Reason != c.reason {
			t.Errorf("%s: %s %s (%s), want %s %s", name, got.Verdict, got.Reason, got.Message, c.verdict, c.reason)
		}
		if _, known := advisory.Lookup(got.Reason); got.Verdict != health.OK && (!known || got.Message == "") {
			t.Errorf("%s: %q is not told: %q", name, got.Reason, got.Message)
		}
	}
}

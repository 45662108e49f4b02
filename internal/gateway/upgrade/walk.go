package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/host"
	"creel/internal/state"
)

// Gateway is what a walk asks of a runtime.
type Gateway interface {
	// Stop ends the gateway that runs, if one does, and returns when it has ended.
	Stop(ctx context.Context, report gateway.Progress) error
	// Launch starts the gateway of a side and returns when the whole chain of evidence
	// holds. When it fails, nothing of that gateway runs.
	Launch(ctx context.Context, s Side, report gateway.Progress) error
}

// Config is where upgrades of one gateway take place. Whoever uses it holds the
// gateway's lock (state.Gateway.Lock), but for Settle.
type Config struct {
	Gateway state.Gateway
	Runtime string
	Files   Files
	// BeforeReturn, if not nil, is called before the old gateway's files are put back:
	// whatever starts a gateway without being asked starts that one from then on.
	BeforeReturn func(old Side) error
	// AfterStep is called when a step has been taken and is on disk; nil is fine.
	AfterStep func(name string)
}

// Replace stops the gateway that runs (from) and launches another (to). When that
// one does not come up the old one is back, which is an error all the same: of
// advisory gateway-upgrade-failed, joined with the reason.
func (c Config) Replace(ctx context.Context, g Gateway, from, to Side, report gateway.Progress) error {
	w := c.walk(g, Record{From: from, To: to}, report)
	if err := w.prepare(); err != nil {
		return err
	}
	if err := g.Stop(ctx, report); err != nil {
		return errors.Join(err, w.forget()) // it may well go on
	}
	w.after("stopped")
	return w.try(ctx)
}

// Launch starts a gateway (to) where none runs and another (from) ran last. It is
// Replace from where the old one has ended.
func (c Config) Launch(ctx context.Context, g Gateway, from, to Side, report gateway.Progress) error {
	w := c.walk(g, Record{From: from, To: to}, report)
	if err := w.prepare(); err != nil {
		return err
	}
	return w.try(ctx)
}

// Resume finishes an upgrade that was interrupted (Read returned it) while no
// gateway runs. to is what would be launched now, be it the record's new one, its old
// one or a third.
func (c Config) Resume(ctx context.Context, g Gateway, r Record, to Side, report gateway.Progress) error {
	report(fmt.Sprintf("finishing the upgrade of %s that was interrupted", r.StartedAt.Local().Format(time.DateTime)))
	w := c.walk(g, r, report)
	failed := r.To
	w.rec.To = to
	act := next(r.Step, r.From.Executable == "")
	if act == keepAndTry {
		doubt, err := c.doubtful(r)
		if err != nil {
			return err
		}
		if doubt {
			act = putBackAndTry
		}
	}
	switch act {
	case keepAndTry:
		return w.try(ctx)
	case tryAgain:
		return w.launchNew(ctx)
	case putBackAndTry:
		if err := w.putBack(); err != nil {
			return err
		}
		return w.try(ctx)
	default:
		w.rec.To = failed
		return w.comeBack(ctx, nil)
	}
}

type action int

const (
	keepAndTry action = iota // the files are the old one's
	// The new one may have served for hours before anybody looked: whatever is wanted
	// now is first launched from the files as they are.
	tryAgain
	putBackAndTry // the old one is not to be had any more
	putBackAndLaunchOld
)

// next says where an interrupted walk goes on when nothing runs. lost: the old
// gateway cannot be launched again.
func next(s Step, lost bool) action {
	switch {
	case s == Prepared:
		return keepAndTry
	case s == Trying:
		return tryAgain
	case lost:
		return putBackAndTry
	}
	return putBackAndLaunchOld
}

// doubtful reports that files which the record calls the old gateway's were served by
// another one since: the kept ones, which are the old gateway's for certain, must not
// be replaced by copies of those.
func (c Config) doubtful(r Record) (bool, error) {
	last, err := Served(c.Gateway, c.Runtime)
	return len(r.Kept) > 0 && last != nil && !last.SameProgram(r.From), err
}

// Finish forgets an upgrade that was interrupted after one of its two gateways had
// come up. The caller has proven that one is healthy.
func (c Config) Finish() error {
	return errors.Join(c.walk(nil, Record{}, nil).forget(), os.RemoveAll(kept(c.Gateway)))
}

// Settle is asked by a daemon of a build before it serves, under the daemon's lock. It
// finishes putting back files, where that was interrupted, so that nothing starts from
// half of them. Files that are the old gateway's are served by that one alone until the
// upgrade is finished: another build, started by whoever, is refused, because it may
// migrate them and they are not kept.
func (c Config) Settle(build string) error {
	r, err := Read(c.Gateway)
	if err != nil || r == nil || r.Step == Trying || r.Runtime != c.Runtime {
		return err
	}
	if r.Step == Returning {
		if err := c.walk(nil, *r, nil).putBackLocked(); err != nil {
			return err
		}
	}
	if build == r.From.Build {
		return nil
	}
	return advisory.New("gateway-upgrade-interrupted",
		fmt.Sprintf("an upgrade of gateway %s from %s to %s was interrupted, and build %.12s is not the old one", c.Gateway.Name, r.From, r.To, build), nil)
}

type walk struct {
	Config
	g      Gateway
	rec    Record
	report gateway.Progress
	// kept: the files were the old gateway's when the new one was launched by this walk.
	kept bool
}

func (c Config) walk(g Gateway, r Record, report gateway.Progress) *walk {
	r.Version, r.Gateway, r.Runtime = recordVersion, c.Gateway.Name, c.Runtime
	if r.StartedAt.IsZero() {
		r.StartedAt = time.Now().UTC().Truncate(time.Second)
	}
	if r.Kept == nil {
		r.Kept = []string{}
	}
	return &walk{Config: c, g: g, rec: r, report: report}
}

func (w *walk) after(name string) {
	if w.AfterStep != nil {
		w.AfterStep(name)
	}
}

// prepare begins an upgrade. What an earlier one left is of no more use.
func (w *walk) prepare() error {
	if err := os.RemoveAll(filepath.Join(w.Gateway.File(state.UpgradeDir), state.RefusedDir)); err != nil {
		return host.Explain(err, w.Gateway.Dir())
	}
	if err := w.record(Prepared); err != nil {
		return err
	}
	w.after("prepared")
	return nil
}

// record writes how far the walk has come.
func (w *walk) record(s Step) error {
	w.rec.Step = s
	path := w.Gateway.File(state.UpgradeFile)
	return host.Explain(state.WriteDocument(path, w.rec), path)
}

// try keeps the files, which are the old gateway's, and launches the new one.
func (w *walk) try(ctx context.Context) error {
	if err := w.keep(); err != nil {
		if foreign(err) {
			return err
		}
		// Nothing has been changed: the old one can start from what is there.
		return w.launchOld(context.WithoutCancel(ctx), err)
	}
	w.after("kept")
	return w.launchNew(ctx)
}

func (w *walk) keep() (err error) {
	unlock, err := w.lockDaemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if w.rec.Kept, err = keep(w.Gateway, w.Files); err != nil {
		return host.Explain(err, w.Gateway.Dir())
	}
	w.kept = true
	return w.record(Trying)
}

func (w *walk) launchNew(ctx context.Context) error {
	if err := w.g.Launch(ctx, w.rec.To, w.report); err != nil {
		if foreign(err) {
			return err
		}
		return w.comeBack(ctx, err)
	}
	w.after("launched")
	// What could not be tidied up is no failure to start; the record is gone or the
	// next start finds that the gateway is healthy.
	_ = w.forget()
	w.after("finished")
	_ = os.RemoveAll(w.Gateway.File(state.UpgradeDir))
	return nil
}

// foreign reports that a gateway runs which somebody else started meanwhile: its
// files are not to be touched.
func foreign(err error) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == "gateway-already-running"
}

// comeBack puts everything back after the new gateway did not come up (failure), and
// launches the old one. The time of whoever waits may be over: this has its own.
func (w *walk) comeBack(ctx context.Context, failure error) error {
	ctx = context.WithoutCancel(ctx)
	if failure != nil {
		w.report("the new gateway did not come up: going back to " + w.rec.From.String())
	}
	if err := w.putBack(); err != nil {
		return errors.Join(w.stranded("its files could not be put back"), failure, err)
	}
	if failure != nil && w.kept && w.rec.To.same(w.rec.From) {
		return failure // it is the one that failed, from these files
	}
	return w.launchOld(ctx, failure)
}

// launchOld launches the old gateway from its own files.
func (w *walk) launchOld(ctx context.Context, failure error) error {
	if w.rec.From.Executable == "" {
		return errors.Join(w.stranded("its executable is not to be had any more"), failure)
	}
	if err := w.g.Launch(ctx, w.rec.From, w.report); err != nil {
		return errors.Join(w.stranded("it did not come up either"), failure, err)
	}
	w.after("returned")
	err := w.forget()
	_ = os.RemoveAll(kept(w.Gateway))
	w.after("finished")
	what := fmt.Sprintf("gateway %s was not upgraded %s; the old one is back", w.Gateway.Name, Between(w.rec.From, w.rec.To))
	if w.rec.From.SameProgram(w.rec.To) {
		what = fmt.Sprintf("gateway %s was not restarted with other settings; it is back with those that it had", w.Gateway.Name)
	}
	if failure == nil { // that was said by the walk that was interrupted
		w.report(what)
		return err
	}
	return errors.Join(advisory.New("gateway-upgrade-failed", what, nil), failure, err)
}

// stranded is what is said when neither gateway runs. The record stays: the next
// start tries again.
func (w *walk) stranded(why string) error {
	return advisory.New("gateway-upgrade-stranded",
		fmt.Sprintf("gateway %s was not upgraded %s, and the old one is not back: %s", w.Gateway.Name, Between(w.rec.From, w.rec.To), why), nil)
}

// putBack puts the kept files back while no daemon can start.
func (w *walk) putBack() (err error) {
	if w.BeforeReturn != nil && w.rec.From.Executable != "" {
		if err := w.BeforeReturn(w.rec.From); err != nil {
			return err
		}
	}
	unlock, err := w.lockDaemon()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return w.putBackLocked()
}

func (w *walk) putBackLocked() error {
	if err := w.record(Returning); err != nil {
		return err
	}
	w.after("returning")
	if err := putBack(w.Gateway, w.Files, w.rec.Kept); err != nil {
		return host.Explain(err, w.Gateway.Dir())
	}
	if err := w.record(Prepared); err != nil {
		return err
	}
	w.after("put-back")
	return nil
}

// lockDaemon keeps daemons of Creel, which anybody may start, away from the files.
func (w *walk) lockDaemon() (unlock func() error, err error) {
	path := w.Gateway.File(state.DaemonLockFile)
	l, err := state.TryLock(path, "creel gateway upgrade")
	var busy *state.Busy
	switch {
	case errors.As(err, &busy):
		return nil, advisory.New("gateway-already-running", fmt.Sprintf("gateway %s was started by somebody else", w.Gateway.Name), err)
	case err != nil:
		return nil, host.Explain(err, path)
	}
	return l.Unlock, nil
}

// forget removes the record: no upgrade is under way any more.
func (w *walk) forget() error {
	path := w.Gateway.File(state.UpgradeFile)
	err := state.RemoveIfExists(path)
	if err == nil {
		err = state.SyncDir(w.Gateway.Dir())
	}
	return host.Explain(err, path)
}

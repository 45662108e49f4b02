package onboard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

// The variables that make the test program a run that kills itself.
const (
	childHome = "CREEL_TEST_ONBOARD_HOME"
	childKill = "CREEL_TEST_ONBOARD_KILL_AT"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(childHome); home != "" {
		os.Exit(child(home))
	}
	goleak.VerifyTestMain(m)
}

// child is a whole run over the world in home. It kills itself at the step that
// the environment names: every journal entry and every effect on the world is a
// step.
func child(home string) int {
	at, _ := strconv.Atoi(os.Getenv(childKill))
	var mu sync.Mutex
	steps := 0
	step := func() {
		mu.Lock()
		defer mu.Unlock()
		if steps++; steps == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal arrives before this is left
		}
	}
	w := &world{home: home, step: step}
	o := w.options(twoSandboxes())
	o.AfterEntry = func(ladder.Entry) { step() }
	out, err := Run(context.Background(), o)
	if err != nil || out.Summary != health.SummaryOK {
		fmt.Fprintln(os.Stderr, out.Summary, err)
		return 1
	}
	return 0
}

func twoSandboxes() desired.Document {
	return desired.New("creel").With(desired.Sandbox{Name: "a"}).With(desired.Sandbox{Name: "b"}).WithDefaults()
}

// world is a stack whose state is files below home/world: real enough to be
// killed over.
type world struct {
	home string
	step func() // called at each effect; nil is fine
	rpc  func(l *thing) error
}

func (w *world) gateway() state.Gateway {
	roots, err := state.RootsFrom(func(name string) string {
		if name == "CREEL_HOME" {
			return w.home
		}
		return ""
	})
	if err != nil {
		panic(err)
	}
	return roots.Gateway("creel")
}

// options are those of a run for doc, with what is recorded now.
func (w *world) options(doc desired.Document) Options {
	recorded, err := desired.Recorded(w.gateway().Desired())
	if err != nil {
		panic(err)
	}
	return Options{Gateway: w.gateway(), Document: doc, Recorded: recorded, Command: "creel test",
		Build: func(d desired.Document, _ credential.Secret) (Stack, error) { return Stack{Layers: w.layers(d)}, nil }}
}

func (w *world) layers(d desired.Document) []layer.Layer {
	var all []layer.Layer
	for _, id := range []layer.ID{layer.Host, layer.Secrets, layer.Gateway, layer.Registration, layer.Inference} {
		all = append(all, &thing{w: w, id: id, subject: string(id), want: wanted(d, id)})
	}
	for _, s := range d.Sandboxes {
		for _, id := range []layer.ID{layer.Sandbox, layer.Agent, layer.Dashboard} {
			all = append(all, &thing{w: w, id: id, subject: "sandbox/" + s.Name})
		}
	}
	return all
}

// wanted is the content that a layer's file should have.
func wanted(d desired.Document, id layer.ID) string {
	if id == layer.Inference {
		return d.Inference.Model
	}
	return ""
}

// thing is a layer whose state is a directory with one file in it. A directory
// without the file is half made, as a crash leaves it.
type thing struct {
	w       *world
	id      layer.ID
	subject string
	want    string
}

func (l *thing) ID() layer.ID    { return l.id }
func (l *thing) Subject() string { return l.subject }
func (l *thing) Title() string   { return string(l.id) }

func (l *thing) dir() string {
	return filepath.Join(l.w.home, "world", strings.ReplaceAll(l.subject, "/", "-")+"-"+string(l.id))
}

func (l *thing) Inspect(context.Context) health.Result {
	if l.w.rpc != nil {
		if err := l.w.rpc(l); err != nil {
			return health.Result{Verdict: health.Unknown, Reason: "gateway-unknown", Message: err.Error()}
		}
	}
	if _, err := os.Stat(l.dir() + ".broken"); err == nil {
		return health.Result{Verdict: health.Failed, Reason: "broken-for-good", Message: "is broken for good"}
	}
	content, err := os.ReadFile(filepath.Join(l.dir(), "made"))
	switch {
	case err == nil && string(content) == l.want:
		return health.Result{Verdict: health.OK, Message: "stands"}
	case err == nil:
		return health.Result{Verdict: health.Failed, Reason: string(l.id) + "-differs", Message: "is " + string(content)}
	case l.id == layer.Host:
		return health.Result{Verdict: health.OK, Message: "stands by itself"}
	case !errors.Is(err, fs.ErrNotExist):
		return health.Result{Verdict: health.Unknown, Reason: "cannot-read", Message: err.Error()}
	}
	_, err = os.Stat(l.dir())
	return health.Result{Verdict: health.Failed, Reason: string(l.id) + "-absent", Message: "is not there", Absent: errors.Is(err, fs.ErrNotExist)}
}

func (l *thing) Plan(_ context.Context, found health.Result) []layer.Action {
	switch {
	case found.Reason == "broken-for-good":
		return nil
	case found.Reason == string(l.id)+"-differs":
		return []layer.Action{{ID: "change-" + string(l.id), Title: "change " + l.subject, Disturbs: []string{l.subject}}}
	case found.Absent || found.BlockedBy != "":
		return []layer.Action{{ID: "create-" + string(l.id), Title: "create " + l.subject}}
	}
	return []layer.Action{{ID: "finish-" + string(l.id), Title: "finish " + l.subject}}
}

func (l *thing) Mend(_ context.Context, do layer.Action, report layer.Progress) error {
	report("at it")
	if do.ID == "create-"+string(l.id) {
		if err := os.MkdirAll(filepath.Dir(l.dir()), 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(l.dir(), 0o700); err != nil { // a second one is an error
			return err
		}
		l.w.effect()
	}
	if err := state.WriteFile(filepath.Join(l.dir(), "made"), []byte(l.want), 0o600); err != nil {
		return err
	}
	l.w.effect()
	return nil
}

func (w *world) effect() {
	if w.step != nil {
		w.step()
	}
}

// tree is everything below home: names, modes, times and contents.
func (w *world) tree(t *testing.T) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(w.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprint(path, " ", info.Mode(), " ", info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

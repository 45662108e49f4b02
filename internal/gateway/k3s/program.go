package k3s

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"creel/internal/budget"
	"creel/internal/gateway/classify"
	"creel/internal/gateway/client"
	"creel/internal/health"
)

// program is OpenShell's own command line. It need not be there; where it is, its
// users are told by it how the gateway is, so a start is not called done before it
// agrees. It is asked about this gateway by its name and never to change anything:
// which gateway is active stays its user's choice.
const program = "openshell"

// findProgram looks for it where a shell would, and where its installer puts it;
// empty when it is not there.
func (r *Runtime) findProgram() string {
	dirs := filepath.SplitList(r.cfg.Getenv("PATH"))
	if home := r.cfg.Getenv("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".local", "bin"))
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// most is more than it says.
const most = 64 << 10

// run runs it and returns what it wrote to both outputs. That it ended with another
// code than 0 is no error: what it means its text says.
func (r *Runtime) run(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "run openshell "+strings.Join(args, " "))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"OPENSHELL_GATEWAY=" + r.cfg.Gateway.Name, "XDG_CONFIG_HOME=" + filepath.Dir(r.cfg.Gateway.Roots.OpenShell), "NO_COLOR=1", "LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "HOME", "DOCKER_HOST"} {
		if v := r.cfg.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	out := &limited{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, 100*time.Millisecond
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil && !errors.As(err, &exit):
		return "", fmt.Errorf("run %s: %w", path, err)
	case exit != nil && !exit.Exited():
		return "", fmt.Errorf("run %s: %w", path, err)
	}
	return out.b.String(), nil
}

// limited keeps the beginning of what is written.
type limited struct{ b bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), most-l.b.Len())])
	return len(p), nil
}

// says asks OpenShell's own program how the gateway is. The verdict is OK also when
// there is no program, and unknown when it cannot be run.
func (r *Runtime) says(ctx context.Context) (health.Verdict, string) {
	path := r.findProgram()
	if path == "" {
		return health.OK, ""
	}
	name := r.cfg.Gateway.Name
	var o classify.Outputs
	var errs [3]error
	var wait sync.WaitGroup
	for i, q := range []struct {
		to   *string
		args []string
	}{{&o.Status, []string{"status"}}, {&o.Named, []string{"gateway", "info", "-g", name}}, {&o.Active, []string{"gateway", "info"}}} {
		wait.Go(func() { *q.to, errs[i] = r.run(ctx, path, q.args...) })
	}
	wait.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return health.Unknown, err.Error()
	}
	if o.TextHealthy(name) {
		return health.OK, ""
	}
	return health.Failed, fmt.Sprintf("openshell itself finds the gateway %s: %s", o.Judge(name), lastWords(o.Status))
}

// lastWords is the last line of a text that says something.
func lastWords(text string) string {
	words := "it says nothing"
	for line := range strings.Lines(classify.Plain(text)) {
		if line = strings.TrimSpace(line); line != "" {
			words = line
		}
	}
	if r := []rune(words); len(r) > 200 {
		words = string(r[:200]) + "…"
	}
	return words
}

// imageAsked finds out, while other questions are asked, whether the container's
// image is of another version than OpenShell's own program; what is sent is what to
// say about that, empty when they agree or it cannot be told.
func (r *Runtime) imageAsked(ctx context.Context, o observation) <-chan string {
	answer := make(chan string, 1)
	path := ""
	if o.there == running && classify.ImageVersion(o.box.Image) != "" {
		path = r.findProgram()
	}
	if path == "" {
		answer <- ""
		return answer
	}
	go func() { answer <- r.otherImage(o.box.Image, r.version(ctx, path)) }()
	return answer
}

// version is what the program says that it is, asked once: a start looks many times.
func (r *Runtime) version(ctx context.Context, path string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said[path] == "" {
		text, err := r.run(ctx, path, "--version")
		if err != nil {
			return ""
		}
		r.said[path] = text
	}
	return r.said[path]
}

// otherImage is what to say of an image and what the program says its version is.
// Creel pulls no image and makes no container, so it is the user's to do: it ends
// whatever is in the container.
func (r *Runtime) otherImage(image, said string) string {
	have, want := classify.ImageVersion(image), classify.Version(said)
	if want == "" || have == want {
		return ""
	}
	text := fmt.Sprintf("the container's image is of OpenShell %s, the openshell program of %s; ", have, want)
	if !client.ClusterEra(want) {
		return text + "that one makes no gateways in a container any more: another gateway (creel onboard --gateway OTHER --runtime embedded) takes its place"
	}
	return text + "openshell gateway start --name " + r.cfg.Gateway.Name + " --recreate makes it anew, and destroys the sandboxes in it"
}

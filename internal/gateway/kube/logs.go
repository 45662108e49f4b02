package kube

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway/kube/rollout"
)

// Logs writes the last lines of what the gateway's container printed. Where it ends
// again and again and has said nothing in this run, those of the run before are
// written. With follow it goes on until ctx ends, also with the pod that comes after
// one that goes.
func (r *Runtime) Logs(ctx context.Context, w io.Writer, lines int, follow bool) error {
	k, err := r.open()
	if err != nil {
		return err
	}
	pod, container, err := k.loggingPod(ctx)
	if err != nil {
		return err
	}
	if !follow {
		return k.writeLog(ctx, w, logRequest{pod: pod.Metadata.Name, container: container, lines: lines})
	}
	ask := logRequest{lines: lines, follow: true}
	for {
		ask.pod, ask.container = pod.Metadata.Name, container
		began := time.Now()
		err := k.copyLog(ctx, w, ask)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !passing(idOf(err, "gateway-unknown")) {
			return err
		}
		// The container or its pod has ended, or the API has gone away: what comes next
		// is followed, and of the same run little is repeated.
		ended := time.Now()
		if left := lookAgain - time.Since(began); left > 0 && !pause(ctx, left) {
			return nil
		}
		next, c, err := k.loggingPod(ctx)
		if err != nil && !passing(idOf(err, "gateway-unknown")) && idOf(err, "") != "gateway-pod-absent" {
			return err
		}
		if err != nil {
			continue
		}
		ask.lines, ask.since = 0, time.Time{}
		if next.Metadata.UID == pod.Metadata.UID && !restarted(pod, next) {
			ask.since = ended.Add(-time.Second)
		}
		pod, container = next, c
	}
}

// logRequest is what is asked of a container's log.
type logRequest struct {
	pod, container   string
	lines            int       // the last; 0 is all
	since            time.Time // zero is from the beginning
	previous, follow bool
}

// restarted reports that a container of the pod is another run than before.
func restarted(before, now rollout.Pod) bool {
	count := func(p rollout.Pod) (n int) {
		for _, c := range p.Status.ContainerStatuses {
			n += c.RestartCount
		}
		return n
	}
	return count(now) != count(before)
}

// loggingPod is the pod whose log is of interest: the one that serves, else the first.
func (c *cluster) loggingPod(ctx context.Context) (rollout.Pod, string, error) {
	set, err := c.readSet(ctx)
	if err != nil {
		return rollout.Pod{}, "", err
	}
	pods, err := c.readPods(ctx, set)
	if err != nil {
		return rollout.Pod{}, "", err
	}
	if len(pods) == 0 {
		return rollout.Pod{}, "", advisory.New("gateway-pod-absent", fmt.Sprintf("statefulset %s has no pod that could have a log", c.set), nil,
			c.api.Kubectl("describe statefulset "+c.set))
	}
	p := pods[max(0, slices.IndexFunc(pods, rollout.Pod.Ready))]
	return p, rollout.Gateway(p.Spec).Name, nil
}

// writeLog writes the log of this run, or of the one before where this one has none.
func (c *cluster) writeLog(ctx context.Context, w io.Writer, ask logRequest) error {
	counted := &counter{w: w}
	err := c.copyLog(ctx, counted, ask)
	if counted.n > 0 {
		return err
	}
	ask.previous = true
	if problem := c.copyLog(ctx, counted, ask); counted.n > 0 {
		return problem
	}
	return err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// mostLog bounds what is read of a log for a report.
const mostLog = 256 << 10

// readLog reads a log for a report.
func (c *cluster) readLog(ctx context.Context, ask logRequest) (string, error) {
	body, err := c.openLog(ctx, ask)
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, mostLog))
	return string(b), err
}

func (c *cluster) copyLog(ctx context.Context, w io.Writer, ask logRequest) error {
	body, err := c.openLog(ctx, ask)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of pod %s: %w", ask.pod, err)
	}
	return nil
}

func (c *cluster) openLog(ctx context.Context, ask logRequest) (io.ReadCloser, error) {
	request := c.api.Get().AbsPath(c.api.Path("api/v1", "pods", ask.pod, "log")).Param("container", ask.container)
	if ask.lines > 0 {
		request = request.Param("tailLines", strconv.Itoa(ask.lines))
	}
	if !ask.since.IsZero() {
		request = request.Param("sinceTime", ask.since.UTC().Format(time.RFC3339))
	}
	for name, on := range map[string]bool{"previous": ask.previous, "follow": ask.follow} {
		if on {
			request = request.Param(name, "true")
		}
	}
	body, err := c.api.Stream(ctx, fmt.Sprintf("read log of Pod %s/%s", c.api.Namespace(), ask.pod), request)
	return body, c.advise(ctx, err, "get", "pods/log")
}

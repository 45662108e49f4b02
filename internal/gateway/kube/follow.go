package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"creel/internal/budget"
	"creel/internal/gateway/kube/rollout"
	"creel/internal/state"
)

// Paces of the port-forward.
const (
	// glance is how often the pod that is led to is looked at: a kubelet keeps the
	// tunnel to a pod that is gone open.
	glance = 2 * time.Second
	// First and longest pause after an attempt that failed.
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	// The longest while the API answers and only no pod is ready: somebody waits for
	// that one.
	podPause = time.Second
)

// errNoPod: there is no pod to lead to at the moment.
var errNoPod = errors.New("no pod is ready")

// follow leads connections to the gateway's pod until ctx ends.
func (s *server) follow(ctx context.Context) {
	again := firstPause
	for ctx.Err() == nil && !s.abandoned() {
		held, err := s.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if held {
			again = firstPause
		}
		s.lead(nil, link{Problem: err.Error()})
		if !pause(ctx, again/2+rand.N(again/2)) {
			return
		}
		again = min(2*again, longestPause)
		if errors.Is(err, errNoPod) {
			again = min(again, podPause)
		}
	}
}

// abandoned ends a port-forward whose lock was removed, with the gateway's directory
// mostly: nobody could find it any more.
func (s *server) abandoned() bool {
	_, err := os.Stat(s.runtime.cfg.Gateway.File(state.PortForwardLock))
	gone := errors.Is(err, fs.ErrNotExist)
	if gone {
		s.log.Warn("the lock is gone", "error", err)
		s.abandon()
	}
	return gone
}

// attempt finds the pod, leads connections to it, and returns why it does so no
// longer. held is true when it did.
func (s *server) attempt(ctx context.Context) (held bool, err error) {
	// Opened anew each time: the kubeconfig may be another one by now.
	k, err := s.runtime.connect()
	if err != nil {
		return false, err
	}
	set, pod, err := s.find(ctx, k)
	if err != nil {
		return false, err
	}
	// One tunnel shows that there is a way, and when it breaks.
	way, err := k.api.Forward(ctx, pod.Metadata.Name)
	if err != nil {
		return false, err
	}
	defer func() { _ = way.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the connections that were led there
	port := rollout.Port(pod.Spec)
	s.lead(&target{ctx: ctx, cluster: k, pod: pod.Metadata.Name, port: port},
		link{Pod: pod.Metadata.Name, PodUID: pod.Metadata.UID, PodPort: port, Since: time.Now().UTC().Truncate(time.Millisecond)})
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		broke := false
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-way.Done():
			broke = true
		case <-tick.C:
			if s.abandoned() {
				return true, errors.New("the gateway's directory is gone")
			}
		}
		now, err := k.readPod(ctx, pod.Metadata.Name)
		switch {
		case err == nil:
			if err := gone(set, pod, now); err != nil {
				return true, err
			}
			if err := s.outdone(ctx, k, now); err != nil {
				return true, err
			}
		case broke:
			return true, fmt.Errorf("the tunnel to pod %s has ended: %w", pod.Metadata.Name, err)
		default:
			// The API may be away for a while; the connections that there are go on.
			s.complain("look at the pod", err)
		}
		if !broke {
			continue
		}
		// The pod is the same: who is connected to it some other way is not disturbed.
		again, err := k.api.Forward(ctx, pod.Metadata.Name)
		if err != nil {
			return true, fmt.Errorf("the tunnel to pod %s has ended: %w", pod.Metadata.Name, err)
		}
		way = again
	}
}

// gone says why a pod is no longer the one that is led to; nil when it is.
func gone(set rollout.StatefulSet, pod rollout.Pod, now *rollout.Pod) error {
	switch {
	case now == nil || now.Metadata.UID != pod.Metadata.UID || !set.Owns(*now):
		return fmt.Errorf("pod %s is gone", pod.Metadata.Name)
	case now.Metadata.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted", pod.Metadata.Name)
	}
	return nil
}

// outdone says that a pod is not ready while another is, which is then led to; nil when
// the pod is ready, or no better one is known.
func (s *server) outdone(ctx context.Context, k *cluster, now *rollout.Pod) error {
	if now.Ready() {
		return nil
	}
	_, better, err := s.find(ctx, k)
	if err != nil || better.Metadata.UID == now.Metadata.UID {
		return nil
	}
	return fmt.Errorf("pod %s is not ready, and pod %s is", now.Metadata.Name, better.Metadata.Name)
}

// find is the pod to lead to: the first of the set's that is ready.
func (s *server) find(ctx context.Context, k *cluster) (rollout.StatefulSet, rollout.Pod, error) {
	ctx, cancel := budget.Context(ctx, budget.Cluster, "find the gateway's pod")
	defer cancel()
	set, err := k.readSet(ctx)
	if err != nil {
		return set, rollout.Pod{}, err
	}
	pods, err := k.readPods(ctx, set)
	if err != nil {
		return set, rollout.Pod{}, err
	}
	i := slices.IndexFunc(pods, rollout.Pod.Ready)
	if i < 0 {
		return set, rollout.Pod{}, fmt.Errorf("statefulset %s: %w", k.set, errNoPod)
	}
	return set, pods[i], nil
}

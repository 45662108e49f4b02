package execstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/health"
	"creel/internal/host/engine"
)

// healthScript is the K3s image's own check of its cluster.
const healthScript = "/usr/local/bin/cluster-healthcheck.sh"

// HealthCheck asks the container's own script whether its cluster is healthy. The
// error says why it is not, or why that is unknown. A script that was killed has
// not answered.
func (s *Store) HealthCheck(ctx context.Context) (health.Verdict, error) {
	operation := "check the cluster in container " + s.o.Container
	ctx, cancel := budget.Context(ctx, budget.Cluster, operation)
	defer cancel()
	r, err := s.o.Engine.Exec(ctx, s.o.Container, engine.Command{Args: []string{healthScript}})
	const bySignal = 128
	switch {
	case err != nil && ctx.Err() != nil:
		return health.Unknown, s.ended(ctx, operation)
	case err != nil:
		return health.Unknown, fmt.Errorf("%s: %w", operation, err)
	case r.ExitCode == 0:
		return health.OK, nil
	case r.ExitCode > bySignal:
		return health.Unknown, advisory.New("cluster-unhealthy", operation, fmt.Errorf("it was ended by signal %d", r.ExitCode-bySignal), s.logs())
	}
	said := strings.TrimSpace(string(r.Stdout) + "\n" + string(r.Stderr))
	last := said[strings.LastIndex(said, "\n")+1:]
	if last == "" {
		last = fmt.Sprintf("exit code %d", r.ExitCode)
	}
	return health.Failed, advisory.New("cluster-unhealthy", operation, errors.New(redact(last)), s.hints("cluster-unhealthy")...)
}

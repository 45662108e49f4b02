package app

import (
	"context"
	"fmt"
	"slices"

	"creel/internal/advisory"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/layer"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/confine"
)

// What a gateway with a sandbox needs at the least, and below which little is
// left for work. Bytes.
const (
	leastDisk   = 64 << 20
	littleDisk  = 1 << 30
	leastMemory = 128 << 20
)

// hostChecks are what this machine must provide for a document.
func (g *graph) hostChecks(paths state.Gateway, doc desired.Document) []layer.HostCheck {
	checks := []layer.HostCheck{
		{Name: "confinement", Ask: func(ctx context.Context) (string, *health.Caveat, error) { return confinement(ctx, doc) }},
		{Name: "state directory", Ask: func(context.Context) (string, *health.Caveat, error) { return directory(paths) }},
		{Name: "disk", Ask: func(context.Context) (string, *health.Caveat, error) { return disk(paths) }},
		{Name: "memory", Ask: func(context.Context) (string, *health.Caveat, error) { return memory(host.Collect()) }},
		{Name: "socket path", Ask: func(context.Context) (string, *health.Caveat, error) {
			path := paths.Socket()
			return fmt.Sprintf("%d of at most %d bytes", len(path), state.MaxSocketPath), nil, host.CheckSocketPath(path)
		}},
	}
	if doc.Runtime != desired.Embedded {
		// Somebody else confines, and no supervisor dials a socket of ours.
		checks = slices.DeleteFunc(checks, func(c layer.HostCheck) bool { return c.Name == "confinement" || c.Name == "socket path" })
	}
	return checks
}

// confinement chooses the tier for every wanted sandbox.
func confinement(ctx context.Context, doc desired.Document) (string, *health.Caveat, error) {
	support := confine.Probe(ctx)
	wanted := doc.Sandboxes
	if len(wanted) == 0 {
		wanted = []desired.Sandbox{{Confinement: sandbox.TierAuto}}
	}
	answer := ""
	for _, w := range wanted {
		tier, reason, err := confine.Choose(w.Confinement, support, w.AcceptRisk == string(sandbox.TierUnconfined))
		if err != nil {
			return "", nil, err
		}
		switch {
		case reason != "":
			answer = fmt.Sprintf("sandboxes are confined with %s: %s", tier, reason)
		case answer == "":
			answer = fmt.Sprintf("sandboxes are confined with %s, Landlock ABI %d and seccomp", tier, support.LandlockABI)
		}
	}
	return answer, nil, nil
}

// directory finds out whether the state could be written, without writing there
// what was not there.
func directory(paths state.Gateway) (string, *health.Caveat, error) {
	dir := paths.Dir()
	if err := host.CheckWritable(dir); err != nil {
		return "", nil, err
	}
	kind, err := host.NetworkFilesystem(dir)
	if err != nil || kind == "" {
		return "writable", nil, nil //nolint:nilerr // unknown is not network
	}
	return "writable, on " + kind, &health.Caveat{Advisory: "home-on-network",
		Message: fmt.Sprintf("state lives on %s, where locks may not be reliable", kind)}, nil
}

func disk(paths state.Gateway) (string, *health.Caveat, error) {
	d, err := host.FreeDisk(paths.Dir())
	if err != nil {
		return "", nil, err
	}
	answer := fmt.Sprintf("%d MiB free, %d MiB needed", d.Free>>20, leastDisk>>20)
	switch {
	case d.Free < leastDisk:
		return "", nil, advisory.New("disk-full", fmt.Sprintf("%s has %s", d.Path, answer), nil)
	case d.Free < littleDisk:
		return answer, &health.Caveat{Advisory: "disk-space-low", Message: answer}, nil
	}
	return answer, nil, nil
}

func memory(f host.Facts) (string, *health.Caveat, error) {
	have := f.Memory.Available + f.Memory.SwapFree
	answer := fmt.Sprintf("%d MiB available, %d MiB needed", have>>20, leastMemory>>20)
	if f.Memory.Total > 0 && have < leastMemory {
		return answer, &health.Caveat{Advisory: "memory-low", Message: answer}, nil
	}
	return answer, nil, nil
}

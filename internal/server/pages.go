package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"creel/internal/agent"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

const (
	pagesID = "dashboard-pages" // the one record of its kind
	// maxPages bounds it; the ports that were used longest ago are forgotten.
	maxPages = 256
)

// ownPage reports that a dashboard's page is of the agent's own making and not the
// built-in console's, which leaves nothing behind in a browser.
func ownPage(s sandbox.Spec) bool {
	builtin, err := agent.Lookup(agent.Console)
	return err != nil || s.Agent != agent.Console || len(s.Command) > 0 && !slices.Equal(s.Command, builtin.Argv(nil))
}

// notePage remembers that a sandbox's own page is at a port.
func (d *daemon) notePage(ctx context.Context, id string, port int) {
	o, err := d.store.Pages.ByID(ctx, pagesID)
	if err == nil && slices.Contains(o.Value.Ports, store.Page{Port: port, Sandbox: id}) {
		return
	}
	_, err = d.store.Pages.Create(ctx, store.Object[store.Pages]{ID: pagesID, Name: pagesID})
	if err == nil || errors.Is(err, store.ErrExists) {
		_, err = d.store.Pages.Change(ctx, pagesID, func(o *store.Object[store.Pages]) error {
			all := slices.DeleteFunc(slices.Clone(o.Value.Ports), func(p store.Page) bool { return p.Port == port })
			all = append(all, store.Page{Port: port, Sandbox: id})
			o.Value.Ports = all[max(0, len(all)-maxPages):]
			return nil
		})
	}
	if err != nil {
		d.log.Warn("record where a sandbox's page is", slog.String("sandbox", id), slog.Any("error", err))
	}
}

// othersPages are the ports at which a sandbox's dashboard should not come up by
// itself, because another's own page was there.
func (d *daemon) othersPages(ctx context.Context, id string) []int {
	o, err := d.store.Pages.ByID(ctx, pagesID)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			d.log.Warn("read where sandboxes' pages were", slog.Any("error", err))
		}
		return nil
	}
	var ports []int
	for _, p := range o.Value.Ports {
		if p.Sandbox != id {
			ports = append(ports, p.Port)
		}
	}
	return ports
}

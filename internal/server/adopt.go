package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/internal/server/store"
	"creel/internal/state"
)

func randomToken() credential.Secret { return credential.NewSecret(rand.Text() + rand.Text()) }

// buryTombstones finishes the deletions that were asked for while no gateway ran,
// before anybody can ask for what is there.
func (d *daemon) buryTombstones(ctx context.Context) error {
	stones, err := os.ReadDir(d.cfg.Gateway.File(state.TombstonesDir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(stones) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for deleted sandboxes: %w", err)
	}
	handles, listed := d.cfg.Driver.Handles(ctx)
	for _, stone := range stones {
		i := slices.IndexFunc(handles, func(h sandbox.Handle) bool { return h.ID == stone.Name() })
		if i < 0 && listed != nil {
			err = listed // what cannot be read may be what is to be deleted
		} else if i < 0 {
			err = d.bury(ctx, stone.Name())
		} else {
			err = d.condemn(ctx, handles[i])
		}
		if err == nil {
			err = state.RemoveIfExists(d.cfg.Gateway.Tombstone(stone.Name()))
		}
		if err != nil {
			// The stone stays, so the next start tries again; others need not wait.
			d.log.Warn("finish deletion", slog.String("sandbox", stone.Name()), slog.Any("error", err))
		}
	}
	return nil
}

// bury removes the record of a sandbox of which nothing else is left.
func (d *daemon) bury(ctx context.Context, id string) error {
	if _, err := d.store.Sandboxes.Delete(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// condemn sees to it that what is left of a sandbox goes: by the reconciler,
// which can wait for it, when there is a record, and at once otherwise.
func (d *daemon) condemn(ctx context.Context, h sandbox.Handle) error {
	_, err := d.store.Sandboxes.Change(ctx, h.ID, func(o *store.Object[store.Sandbox]) error {
		o.Value.Deleting = true
		o.Value.DeletedAt = d.cfg.Now().UTC()
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return d.cfg.Driver.Destroy(ctx, h)
	}
	return err
}

// adoptHandles makes records of sandboxes that are on disk and not in the store,
// as after the loss of the database. What they should be is in their handles.
func (d *daemon) adoptHandles(ctx context.Context) error {
	handles, err := d.cfg.Driver.Handles(ctx)
	if err != nil { // the readable ones are still listed
		d.log.Warn("read sandboxes on disk", slog.Any("error", err))
	}
	for _, h := range handles {
		if h.Gateway != d.cfg.Gateway.Name {
			continue
		}
		if _, err := os.Lstat(d.cfg.Gateway.Tombstone(h.ID)); err == nil {
			continue
		}
		d.onDisk[h.ID] = h // nobody else is there yet
		if _, err := d.store.Sandboxes.ByID(ctx, h.ID); !errors.Is(err, store.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		if err := d.adoptHandle(ctx, h); err != nil {
			d.log.Warn("take over sandbox", slog.String("sandbox", h.Name), slog.Any("error", err))
			continue
		}
		d.log.Info("took over a sandbox that the database did not know", slog.String("sandbox", h.Name))
	}
	return nil
}

func (d *daemon) adoptHandle(ctx context.Context, h sandbox.Handle) error {
	dashboard, relayToken, err := d.launchTokens(h.ID)
	if err != nil {
		return err
	}
	_, err = d.store.Sandboxes.Create(ctx, store.Object[store.Sandbox]{ID: h.ID, Name: h.Name, Labels: h.Spec.Labels,
		CreatedAt: h.CreatedAt, Value: store.Sandbox{Spec: h.Spec, Wanted: sandbox.Running, Phase: sandbox.Starting,
			WasReady: true, DashboardToken: dashboard, RelayToken: relayToken}})
	return err
}

// reseal gives sandboxes tokens that can be opened where those in their records
// cannot, as after the loss of the key that sealed them. They are the same ones
// where a sandbox was launched with some.
func (d *daemon) reseal(ctx context.Context, records []store.Object[store.Sandbox]) error {
	for i, o := range records {
		if _, _, err := d.tokens(o.Value); err == nil {
			continue
		}
		dashboard, relayToken, err := d.launchTokens(o.ID)
		if err != nil {
			return err
		}
		records[i], err = d.store.Sandboxes.Change(ctx, o.ID, func(o *store.Object[store.Sandbox]) error {
			o.Value.DashboardToken, o.Value.RelayToken = dashboard, relayToken
			return nil
		})
		if err != nil {
			return err
		}
		d.log.Warn("sealed a sandbox's tokens anew: those in its record could not be opened", slog.String("sandbox", o.Name))
	}
	return nil
}

// launchTokens takes a sandbox's own tokens from what it was launched with, since
// its agent may still be running with them, and makes new ones if it never was.
func (d *daemon) launchTokens(id string) (dashboard, relayToken []byte, err error) {
	content, err := os.ReadFile(d.cfg.Gateway.Sandbox(id).File(state.LaunchFile))
	var launch sandbox.Launch
	if err != nil || json.Unmarshal(content, &launch) != nil || launch.DashboardToken == "" || launch.RelayToken == "" {
		return d.newTokens()
	}
	if dashboard, err = d.keyring.Seal(credential.NewSecret(launch.DashboardToken)); err != nil {
		return nil, nil, err
	}
	relayToken, err = d.keyring.Seal(credential.NewSecret(launch.RelayToken))
	return dashboard, relayToken, err
}

package kubestore

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"creel/internal/bundle"
)

const next = bundle.ServerTLS + "-creel-next"

// rotate is one run of the program.
func (w *world) rotate(at time.Time, all bool) (bundle.RotationOutcome, error) {
	w.Helper()
	out, err := bundle.Rotate(w.Context(), w.store(), at, all)
	w.noSecretIn(err)
	return out, err
}

// finishRotation rotates until nothing is left to do, as somebody does who is
// told to try again.
func (w *world) finishRotation(at time.Time, all bool) {
	w.Helper()
	for range 4 {
		out, err := w.rotate(at, all)
		if err != nil {
			w.Fatalf("rotate: %v", err)
		}
		w.handshake()
		switch out.Rotation.Stage {
		case bundle.RotationSwitch, bundle.RotationDone:
			return
		case bundle.RotationWaiting:
			at = out.Rotation.Ready
		}
		all = false
	}
	w.Fatal("the rotation does not end")
}

// TestRotation takes a set through both steps, and kills each before and after
// each of its writes: the next run goes on, clients and gateway fit each other at
// every moment, and in the end there is a new authority and nothing left over.
func TestRotation(t *testing.T) {
	for _, stage := range []bundle.Stage{bundle.RotationTrust, bundle.RotationSwitch} {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", stage, answered), func(t *testing.T) {
				t.Parallel()
				for cut := int32(1); ; cut++ {
					w := newWorld(t, bundle.Generation2)
					w.mustRepair(bundle.RepairOptions{})
					old := w.objects()
					at := time.Now()
					if stage == bundle.RotationSwitch {
						if _, err := w.rotate(at, true); err != nil {
							t.Fatal(err)
						}
						at = at.Add(bundle.TrustTime)
					}
					all := stage == bundle.RotationTrust
					writes := w.wire.cutAt(cut, answered)
					_, err := w.rotate(at, all)
					cutShort := writes.Load() >= cut
					w.wire = &wire{}
					if !cutShort && err != nil {
						t.Fatalf("not interrupted, and yet: %v", err)
					}
					w.handshake()
					w.finishRotation(at, all)
					w.finishRotation(at.Add(bundle.TrustTime), false) // where the first step began anew
					w.rotated(old)
					if !cutShort {
						return
					}
				}
			})
		}
	}
}

// rotated: both certificates are others, what they were is in backups, nothing is
// put aside or owed.
func (w *world) rotated(old map[string]*object) {
	w.Helper()
	now := w.objects()
	for _, name := range []string{bundle.ServerTLS, bundle.ClientTLS} {
		if reflect.DeepEqual(now[name].Data["tls.crt"], old[name].Data["tls.crt"]) {
			w.Errorf("%s is not rotated", name)
		}
		if backup := now[name+bundle.BackupInfix+"1"]; backup == nil || !reflect.DeepEqual(backup.Data, old[name].Data) {
			w.Errorf("the previous %s is lost", name)
		}
	}
	if o := now[next]; o == nil || len(o.Data) != 0 {
		w.Errorf("keys are left in %s", next)
	}
	if owed := w.gateway().Metadata.Annotations[bundle.AnnotationRestartPending]; owed != "" {
		w.Errorf("a roll is still owed: %s", owed)
	}
	if out := w.mustRepair(bundle.RepairOptions{}); out.Repaired || out.Rolled {
		w.Errorf("a repair still finds something: %+v", out)
	}
}

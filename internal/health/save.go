package health

import (
	"context"
	"maps"
	"time"
)

// save keeps what changed.
func (r *Runner) save(now time.Time) {
	if r.opt.Save == nil || r.saving || r.saveDue.IsZero() || now.Before(r.saveDue) || r.listed.IsZero() {
		return
	}

	r.saving, r.saveDue = true, time.Time{}
	all := r.allSaved()
	r.spawn(func(context.Context) func(time.Time) {
		err := r.opt.Save(all)
		return func(now time.Time) {
			r.saving = false
			if err != nil {
				r.log.Error("what is known could not be kept", "err", err)
				r.saveDue = now.Add(10 * time.Second)
			}
		}
	})
}

func (r *Runner) allSaved() map[ID]Saved {
	all := make(map[ID]Saved, len(r.entries))
	maps.Copy(all, r.opt.Saved) // of those not yet read
	for id, e := range r.entries {
		if e.m != nil {
			all[id] = e.saved
		}
	}

	return all
}

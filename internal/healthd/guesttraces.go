package healthd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// down removes all that up has made, whatever is left of it and wherever an earlier up or down was broken off, and nothing
// without our mark. The certificate comes first; what cannot be removed holds up nothing else.
func (g guest) down(ctx context.Context) error {
	_, exists, err := g.there(ctx)
	if errors.Is(err, errForeign) {
		g.say("left alone: %s", err)
		err = nil
	}

	if err != nil {
		return err
	}

	trusted, errTrust := g.distrust(ctx)
	errInstance := g.removeInstance(ctx, exists)
	have, err := g.c.Observe(ctx, g.project)
	if err != nil {
		return errors.Join(errTrust, errInstance, err)
	}

	if have.Project == nil {
		g.say("there is no Incus project %s", g.project)
		return errTrust
	}

	kept, errVolume := g.removeVolumes(ctx, have)
	errImage := g.removeImages(ctx, "")
	given, errProject := g.giveBack(ctx, have.Project.Config)
	err = errors.Join(errTrust, errInstance, errVolume, errImage, errProject)
	switch {
	case err != nil:
	case exists || trusted || kept || given:
		g.say("ic-healthd is gone from project %s; the host's own looks after it again", g.project)
	default:
		g.say("there is no ic-healthd in project %s", g.project)
	}

	return err
}

// trustMark is the description of the certificate that up trusts: nobody else's says this of itself.
func trustMark(project, fingerprint string) string {
	return fmt.Sprintf("ic-healthd in project %s, by ic-agent healthd up (%.12s)", project, fingerprint)
}

// certificates returns the guest's certificate, should there be more all of them, and those that others trust under its
// name for this project. A certificate is the guest's if it has the mark, or is the one the guest itself shows.
func (g guest) certificates(ctx context.Context) (ours, others []incus.Certificate, err error) {
	all, err := g.c.Trusted(ctx)
	if err != nil {
		return nil, nil, err
	}

	own := ""
	_, exists, err := g.there(ctx)
	if err == nil && exists {
		text, _ := g.c.ReadFile(ctx, g.project, guestName, guestState+"/"+certificateFile) // not while it is stopped
		own = fingerprintIn(text)
	}

	for _, cert := range all {
		switch {
		case cert.Description == trustMark(g.project, cert.Fingerprint), own != "" && cert.Fingerprint == own:
			ours = append(ours, cert)
		case cert.Name == guestName && len(cert.Projects) == 1 && cert.Projects[0] == g.project:
			others = append(others, cert)
		}
	}

	return ours, others, nil
}

// distrust forgets the guest's certificate, and tells whether there was one.
func (g guest) distrust(ctx context.Context) (bool, error) {
	ours, others, err := g.certificates(ctx)
	for _, cert := range ours {
		errOne := g.c.Distrust(ctx, cert.Fingerprint)
		err = errors.Join(err, errOne)
		if errOne == nil {
			g.say("certificate %.12s is trusted no more", cert.Fingerprint)
		}
	}

	for _, cert := range others {
		g.say("certificate %.12s has the same name and is not ours: it stays (incus config trust remove %.12s)", cert.Fingerprint, cert.Fingerprint)
	}

	return len(ours) > 0, err
}

func (g guest) removeInstance(ctx context.Context, exists bool) error {
	if !exists {
		return nil
	}

	err := g.c.Do(ctx, g.project, plan.StopInstance{Name: guestName, Grace: 5 * time.Second})
	if err == nil {
		err = g.c.Do(ctx, g.project, plan.DeleteInstance{Name: guestName})
	}

	if err == nil {
		g.say("instance %s is deleted", guestName)
	}

	return err
}

// removeVolumes deletes the volume of the key, and tells whether there was one; should the host's pool have changed
// since, it is in another.
func (g guest) removeVolumes(ctx context.Context, have plan.Observed) (found bool, err error) {
	for at, v := range have.Volumes {
		if at != v.Pool+"/"+guestName || v.Config[guestMark] != "true" || v.UsedBy > 0 {
			continue // a project may share its volumes with another that has a guest, too
		}

		found = true
		errOne := g.c.RemoveKeyVolume(ctx, g.project, v.Pool, guestName, guestMark)
		err = errors.Join(err, errOne)
		if errOne == nil {
			g.say("volume %s with its key is deleted", guestName)
		}
	}

	return found, err
}

// removeImages deletes the images of guests but one.
func (g guest) removeImages(ctx context.Context, but string) error {
	images, err := g.c.Images(ctx, g.project)
	for sum, i := range images {
		if i.Owner == guestName && sum != but {
			err = errors.Join(err, g.c.Do(ctx, g.project, plan.DeleteImage{Fingerprint: sum, Owner: guestName}))
		}
	}

	return err
}

// giveBack leaves the project to whoever watched it before, and tells whether it was the guest's. A scope that somebody
// has set since stays.
func (g guest) giveBack(ctx context.Context, config map[string]string) (bool, error) {
	if config[guestMark] != "true" {
		return false, nil
	}

	set := map[string]string{guestMark: "", guestScope: ""}
	if config[health.KeyScope] == "project" {
		set[health.KeyScope] = config[guestScope]
	}

	return true, g.c.Do(ctx, g.project, plan.UpdateProject{Name: g.project, Set: set})
}

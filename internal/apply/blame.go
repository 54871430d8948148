package apply

import (
	"errors"
	"fmt"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// blamed adds to a failed step of an instance which key or device of the user's files it failed for, with the value
// and the place, where the error tells.
func (l *Loop) blamed(on plan.ID, err error) error {
	if err == nil || errors.Is(err, errSkipped) || l.host.Blame == nil || on.Kind != plan.KindInstance {
		return err
	}

	for _, w := range l.turn.Desired.Instances {
		if w.Name != on.Name {
			continue
		}

		key, device := l.host.Blame(err, w.Config, w.Devices)
		switch {
		case device != "":
			return fmt.Errorf("%w: the device %s%s", err, device, w.Origin(plan.DeviceOrigin(device)).Suffix())
		case key != "":
			return fmt.Errorf("%w: %s is %s%s", err, key, shown(w.Config[key]), w.Origin(key).Suffix())
		}
	}

	return err
}

// shown is a value short enough for a sentence.
func shown(value string) string {
	const most = 60
	first, _, more := strings.Cut(value, "\n")
	if more || len(first) > most {
		return fmt.Sprintf("%.*q…", most, first)
	}

	return fmt.Sprintf("%q", value)
}

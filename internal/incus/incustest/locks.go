package incustest

import (
	"slices"
)

// lock is an instance's operation lock. Server.mu guards it.
type lock struct {
	action string
	// reusable locks are those of graceful stops: another stop takes them over.
	reusable bool
	done     chan struct{}
	err      error
}

func busy(l *lock) error { return says("Instance is busy running a %q operation", l.action) }

// take begins an operation on an instance, or joins one; wait tells that the same one runs already and its end is
// all there is to wait for. The caller holds Server.mu.
func (i *instance) take(action string, inherit []string, reusable, reuse bool) (l *lock, wait bool, err error) {
	have := i.lock
	switch {
	case have == nil:
		i.lock = &lock{action: action, reusable: reusable, done: make(chan struct{})}
		return i.lock, false, nil
	case have.action == action && (!reuse || !have.reusable):
		return have, true, nil
	case slices.Contains(inherit, have.action):
		return have, false, nil
	case have.reusable && reuse:
		return have, false, nil
	}
	return nil, false, busy(have)
}

// unlock ends the instance's operation, if there is one; the caller holds Server.mu.
func (i *instance) unlock(err error) {
	if i.lock == nil {
		return
	}
	i.lock.err = err
	close(i.lock.done)
	i.lock = nil
}

// release ends an operation if it is still the instance's.
func (i *instance) release(l *lock, err error) {
	if i.lock == l {
		i.unlock(err)
	}
}

package state

import "fmt"

// Move makes all that is remembered of one stack, its generations included, another one's. When it is broken off, the
// first still has what it had.
func (db *DB) Move(from, to string) error {
	l, err := db.Load(from)
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}

	all, err := db.Generations(from)
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}

	var keep []uint64
	for _, v := range l.Good {
		keep = append(keep, v.Generation)
	}

	for _, g := range all {
		whole, err := db.Generation(from, g.Number)
		if err != nil {
			continue // it is damaged, and dropped by the next list
		}

		err = db.Record(to, whole, keep...)
		if err != nil {
			return fmt.Errorf("move %s to %s: %w", from, to, err)
		}
	}

	l.Stack, l.Intents, l.Conditions = to, nil, nil
	err = db.Save(l)
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}

	return db.Forget(from)
}

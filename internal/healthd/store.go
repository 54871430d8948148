package healthd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// storeVersion is the format of the file; a newer one is not understood.
const storeVersion = 1

// store keeps what has to survive the daemon in one file of a directory: replaced as a whole, with a checksum.
type store struct{ dir string }

func (s store) path() string { return filepath.Join(s.dir, "state.json") }

// kept is the file.
type kept struct {
	Version int `json:"version"`
	// Sum is the hex sha256 of Instances as it stands in the file.
	Sum       string          `json:"sum"`
	Instances json.RawMessage `json:"instances"`
}

// errNewer is the error for a file of a later version, which is left as it is.
var errNewer = errors.New("it was written by a newer ic-healthd")

// load reads the file. One that does not exist is empty; one that is damaged is put aside, and the error says so:
// then there is nothing known, and everything is found anew.
func (s store) load() (map[health.ID]health.Saved, error) {
	b, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	if err != nil {
		return nil, fmt.Errorf("read what was kept: %w", err)
	}

	all, err := decode(b)
	if err == nil {
		return all, nil
	}

	aside := s.path() + ".damaged"
	if errors.Is(err, errNewer) {
		aside = s.path() + ".newer"
	}

	return nil, errors.Join(fmt.Errorf("read what was kept in %s (it is put aside as %s): %w", s.path(), aside, err), os.Rename(s.path(), aside))
}

func decode(b []byte) (map[health.ID]health.Saved, error) {
	var k kept
	err := json.Unmarshal(b, &k)
	if err != nil {
		return nil, err
	}

	if k.Version > storeVersion {
		return nil, errNewer
	}

	sum := sha256.Sum256(k.Instances)
	if k.Sum != hex.EncodeToString(sum[:]) {
		return nil, errors.New("the checksum is wrong")
	}

	var byName map[string]health.Saved
	err = json.Unmarshal(k.Instances, &byName)
	if err != nil {
		return nil, err
	}

	all := make(map[health.ID]health.Saved, len(byName))
	for name, saved := range byName {
		project, instance, ok := strings.Cut(name, "/")
		if !ok {
			return nil, fmt.Errorf("%q is not project/instance", name)
		}

		all[health.ID{Project: project, Name: instance}] = saved
	}

	return all, nil
}

// save replaces the file.
func (s store) save(all map[health.ID]health.Saved) error {
	byName := make(map[string]health.Saved, len(all))
	for id, saved := range all {
		byName[id.String()] = saved
	}

	instances, err := json.Marshal(byName)
	if err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}

	sum := sha256.Sum256(instances)
	b, err := json.Marshal(kept{Version: storeVersion, Sum: hex.EncodeToString(sum[:]), Instances: instances})
	if err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}

	err = replace(s.path(), b)
	if err != nil {
		return fmt.Errorf("keep what is known: %w", err)
	}

	return nil
}

// replace writes a file so that either the old or the new one is there, whenever the power fails.
func replace(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}

	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}

	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}

	err = os.Rename(path+".new", path)
	if err != nil {
		return err
	}

	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}

	return errors.Join(dir.Sync(), dir.Close())
}

// lock waits until no other daemon has the directory, and says when it has to wait. The lock ends with the
// process, or with the function returned.
func (s store) lock(ctx context.Context, waiting func()) (func(), error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for said := false; ; said = true {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}

		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}

		if !said {
			waiting()
		}

		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-tick.C:
		}
	}
}

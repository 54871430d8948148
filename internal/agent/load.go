package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// loader runs the parse child, or parses here where there is none. What it returns is sealed.
func (c Config) loader(key []byte) apply.Loader {
	load := compose.Load
	if c.Executable != "" {
		load = compose.Child{Argv: []string{c.Executable, "parse"}}.Load
	}

	return func(ctx context.Context, src apply.Source) (plan.Project, error) {
		p, err := load(ctx, compose.Input{Stack: src.Stack, Dir: src.Dir, Files: src.Files, Env: src.Env, Vaults: c.Vaults, Policy: c.Settings.Policy})
		p.Seal(key)

		return p, err
	}
}

// loader tells the directory watch what a file that is refused refers to, too: one that was looked for in vain mends
// the stack when it appears.
func (a *Agent) loader() apply.Loader {
	load := a.conf.loader(a.seal)

	return func(ctx context.Context, src apply.Source) (plan.Project, error) {
		p, err := load(ctx, src)
		refused, ok := errors.AsType[*compose.Error](err)
		if ok {
			a.watch.Refer(src.Stack, refused.Files)
		}

		return p, err
	}
}

// sealBytes is the length of the key of hashes of secrets.
const sealBytes = 32

// sealKey reads the host's key for hashes of secrets, or makes it. Without it every secret would look changed once.
func sealKey(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "seal.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sealBytes {
		return key, nil
	}

	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the key of the seals: %w", err)
	}

	key = make([]byte, sealBytes)
	_, _ = rand.Read(key) // it never fails
	err = writeDurably(path, key)
	if err != nil {
		return nil, fmt.Errorf("write the key of the seals: %w", err)
	}

	return key, nil
}

// writeDurably makes a file that is there as a whole or not at all, whatever happens to the machine.
func writeDurably(path string, content []byte) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}

	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}

	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}

	return err
}

package incus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// copying is what a file is called in the volume until it is there as a whole.
const copying = ".ic-agent-copying"

// seedVolume copies what the root filesystem of the first instance that has anything at its path has there, with owner
// and mode. What is in the volume already stays: a copy that was broken off goes on where it was.
func (c *Client) seedVolume(ctx context.Context, project string, op plan.SeedVolume) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.PullTimeout)
	defer cancel()

	to, done, err := c.sftp(ctx, project, "storage-pools/"+url.PathEscape(op.Pool)+"/volumes/custom/"+url.PathEscape(op.Name)+"/sftp")
	if err != nil {
		return err
	}
	defer done()

	for _, from := range op.From {
		copied, err := c.seedFrom(ctx, project, to, from)
		if err != nil {
			return fmt.Errorf("from %s of %s: %w", from.Path, from.Instance, c.judge(ctx, err, false))
		}
		if copied {
			return nil
		}
	}
	if op.Required {
		return kinded{fmt.Errorf("the image has no directory %s, or nothing in it: correct the subpath", op.From[0].Path), []error{ErrRefused}}
	}
	return nil
}

// seedFrom reports whether there was anything. An empty directory gives its owner and mode only.
func (c *Client) seedFrom(ctx context.Context, project string, to *sftp.Client, from plan.Seed) (copied bool, err error) {
	src, done, err := c.sftp(ctx, project, "instances/"+url.PathEscape(from.Instance)+"/sftp")
	if err != nil {
		return false, err
	}
	defer done()

	info, err := src.Stat(from.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list, err := src.ReadDir(from.Path)
	if err != nil {
		return false, err
	}
	t := transfer{src: src, to: to}
	for _, entry := range list {
		err = t.copy(path.Join(from.Path, entry.Name()), "/"+entry.Name(), entry)
		if err != nil {
			return false, err
		}
	}
	return len(list) > 0, t.own("/", info)
}

// Within tells whether a custom volume has something at a path.
func (c *Client) Within(ctx context.Context, project, pool, volume, at string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.MutateTimeout)
	defer cancel()

	files, done, err := c.sftp(ctx, project, "storage-pools/"+url.PathEscape(pool)+"/volumes/custom/"+url.PathEscape(volume)+"/sftp")
	if err == nil {
		defer done()
		_, err = files.Stat(path.Join("/", at))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for %s in volume %s of pool %s in project %s: %w", at, volume, pool, project, c.judge(ctx, err, false))
	}
	return true, nil
}

// sftp opens a connection that ends with ctx. The library's own knows no context.
func (c *Client) sftp(ctx context.Context, project, at string) (*sftp.Client, func(), error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, c.judge(ctx, err, false)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	end := func() {
		stop()
		_ = conn.Close()
	}
	var client *sftp.Client
	rest, err := upgrade(ctx, conn, "sftp", http.MethodGet, at+"?"+url.Values{"project": {project}}.Encode(), nil)
	if err == nil {
		client, err = sftp.NewClientPipe(rest, conn, sftp.MaxPacketUnchecked(128<<10))
	}
	if err != nil {
		end()
		return nil, nil, c.judge(ctx, err, false)
	}
	return client, func() {
		_ = client.Close()
		end()
	}, nil
}

// transfer copies between two file systems.
type transfer struct{ src, to *sftp.Client }

// copy copies one entry and what is below it. Devices, sockets and pipes are left out.
func (t transfer) copy(from, to string, info os.FileInfo) error {
	switch {
	case strings.HasSuffix(from, copying):
		return nil
	case info.IsDir():
		return t.dir(from, to, info)
	}
	_, err := t.to.Lstat(to)
	switch {
	case err == nil:
		return nil // it is there, and was whole when it got its name
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at %s: %w", to, err)
	case info.Mode()&os.ModeSymlink != 0:
		target, err := t.src.ReadLink(from)
		if err == nil {
			err = t.to.Symlink(target, to)
		}
		if err != nil {
			return fmt.Errorf("link %s: %w", to, err)
		}
	case info.Mode().IsRegular():
		return t.file(from, to, info)
	}
	return nil
}

func (t transfer) dir(from, to string, info os.FileInfo) error {
	err := t.to.MkdirAll(to)
	if err != nil {
		return fmt.Errorf("make %s: %w", to, err)
	}
	list, err := t.src.ReadDir(from)
	if err != nil {
		return fmt.Errorf("list %s: %w", from, err)
	}
	for _, entry := range list {
		err = t.copy(path.Join(from, entry.Name()), path.Join(to, entry.Name()), entry)
		if err != nil {
			return err
		}
	}
	return t.own(to, info)
}

// file copies under another name first.
func (t transfer) file(from, to string, info os.FileInfo) error {
	in, err := t.src.Open(from)
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	defer func() { _ = in.Close() }() // only read
	part := to + copying
	out, err := t.to.Create(part)
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Close())
	if err == nil {
		err = t.own(part, info)
	}
	if err == nil {
		err = t.to.Rename(part, to)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}

// own gives the owner first: that takes set-uid bits away.
func (t transfer) own(to string, info os.FileInfo) error {
	stat, ok := info.Sys().(*sftp.FileStat)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", to)
	}
	err := t.to.Chown(to, int(stat.UID), int(stat.GID))
	if err == nil {
		err = t.to.Chmod(to, info.Mode())
	}
	if err != nil {
		return fmt.Errorf("give %s its owner: %w", to, err)
	}
	return nil
}

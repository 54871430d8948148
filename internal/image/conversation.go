package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// maxConfig is the size up to which an image's config is read, in bytes; large ones have some 20 KB.
	maxConfig = 4 << 20
	// maxLayers is more layers than any runtime stacks.
	maxLayers = 1000
)

// conversation is one question to one registry.
type conversation struct {
	src  source
	want wanted
	// opts carry the login, the transport and the ctx.
	opts []remote.Option
	// authFile is where logins are looked up; login says that there is one, for user.
	authFile string
	login    bool
	user     string
}

// open looks up the login and sets the limits. Retries are off: they are the caller's.
func (r *Resolver) open(ctx context.Context, src source) (*conversation, error) {
	c := &conversation{src: src, authFile: r.opts.AuthFile}
	file, err := readAuth(r.opts.AuthFile)
	if err != nil {
		return nil, err
	}
	cfg, ok, err := file.login(src)
	if err != nil {
		return nil, err
	}
	auth := authn.Anonymous
	if ok {
		c.login, c.user = true, cfg.Username
		auth = authn.FromConfig(cfg)
	}
	never := func(error) bool { return false }
	c.opts = []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(r.opts.Transport),
		remote.WithUserAgent(r.opts.UserAgent),
		remote.WithAuth(auth),
		remote.WithRetryPredicate(never),
	}
	return c, nil
}

func (r *Resolver) resolve(ctx context.Context, src source, written string, names bool) (plan.Image, error) {
	want, err := platform(written, r.opts.Arch)
	if err != nil {
		return plan.Image{}, err
	}
	c, err := r.open(ctx, src)
	if err != nil {
		return plan.Image{}, err
	}
	c.want = want
	img, err := c.read(names)
	if err != nil {
		return plan.Image{}, c.explain(ctx, err)
	}
	return img, nil
}

func (r *Resolver) digest(ctx context.Context, src source) (string, error) {
	c, err := r.open(ctx, src)
	if err != nil {
		return "", err
	}
	desc, err := remote.Head(src.remote, c.opts...)
	if err == nil {
		return desc.Digest.String(), nil
	}
	if !headless(err) {
		return "", c.explain(ctx, err)
	}
	full, err := remote.Get(src.remote, c.opts...)
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return full.Digest.String(), nil
}

// headless tells whether err comes from an answer to HEAD that is a success but lacks the headers which make
// it useful; a few registries are like that.
func headless(err error) bool {
	var status *transport.Error
	var broken *url.Error
	return !errors.As(err, &status) && !errors.As(err, &broken)
}

// read has the conversation: manifest, config, and the users' tables where they matter.
func (c *conversation) read(names bool) (plan.Image, error) {
	desc, err := remote.Get(c.src.remote, c.opts...)
	if err != nil {
		return plan.Image{}, err
	}
	chosen, single, err := c.choose(desc)
	if err != nil {
		return plan.Image{}, err
	}
	digest, err := chosen.Digest()
	if err != nil {
		return plan.Image{}, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := manifest(chosen)
	if err != nil {
		return plan.Image{}, err
	}
	img := plan.Image{
		Ref:         c.src.String(),
		Digest:      desc.Digest.String(),
		Fingerprint: fingerprint(m.Layers),
		Server:      c.src.server(),
		Alias:       c.src.pinned(digest.String()),
	}
	config, err := chosen.RawConfigFile()
	if err != nil {
		return plan.Image{}, fmt.Errorf("read the config: %w", err)
	}
	p, err := setConfig(&img, config)
	if err != nil {
		return plan.Image{}, err
	}
	if single {
		err = c.want.check(p)
		if err != nil {
			return plan.Image{}, err
		}
	}
	err = setUsers(&img, chosen, names)
	return img, err
}

// choose returns the image to use: that which the reference names, then single is true, or one of an index.
func (c *conversation) choose(desc *remote.Descriptor) (img v1.Image, single bool, err error) {
	if !isIndex(desc) {
		img, err = desc.Image()
		return img, true, err
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, false, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, false, fmt.Errorf("%w: its index is damaged: %w", ErrFormat, err)
	}
	d, err := c.want.choose(list)
	if err != nil {
		return nil, false, err
	}
	img, err = index.Image(d.Digest)
	return img, d.Platform == nil, err
}

// isIndex trusts the content where the Content-Type says nothing of use.
func isIndex(desc *remote.Descriptor) bool {
	media, _, err := mime.ParseMediaType(string(desc.MediaType))
	if err == nil && (types.MediaType(media).IsIndex() || types.MediaType(media).IsImage()) {
		return types.MediaType(media).IsIndex()
	}
	var content struct {
		MediaType types.MediaType   `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	err = json.Unmarshal(desc.Manifest, &content)
	return err == nil && (content.MediaType.IsIndex() || len(content.Manifests) > 0)
}

// manifest reads the image's manifest and refuses what is no image, or could be meant to exhaust us.
func manifest(img v1.Image) (*v1.Manifest, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("%w: its manifest is damaged: %w", ErrFormat, err)
	}
	switch m.Config.MediaType {
	case types.DockerConfigJSON, types.OCIConfigJSON, "application/octet-stream", "":
	default:
		return nil, fmt.Errorf("%w: it is something else (%s)", ErrFormat, m.Config.MediaType)
	}
	if m.Config.Digest.Hex == "" {
		return nil, fmt.Errorf("%w: its manifest names no config", ErrFormat)
	}
	if m.Config.Size > maxConfig || len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: it is absurdly large (a config of %d bytes, %d layers)", ErrFormat, m.Config.Size, len(m.Layers))
	}
	return m, nil
}

// setUsers fills in the numbers of the image's USER, and the tables when they are asked for or USER has a
// name.
func setUsers(img *plan.Image, from v1.Image, names bool) error {
	if names || plan.NeedsNames(img.User) {
		err := readUsers(img, from)
		if err != nil {
			return err
		}
	}
	uid, gid, err := plan.ResolveUser(img.User, *img)
	if err != nil {
		return fmt.Errorf("USER %s: %w: %w", img.User, ErrUser, err)
	}
	img.UID, img.GID = uid, gid
	return nil
}

func readUsers(img *plan.Image, from v1.Image) error {
	layers, err := from.Layers()
	if err != nil {
		return fmt.Errorf("read the layers: %w", err)
	}
	files, err := readFiles(layers, "etc/passwd", "etc/group")
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	img.Users, img.Groups = parsePasswd(files["etc/passwd"]), parseGroup(files["etc/group"])
	return nil
}

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
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
	cfg, file, ok, err := r.findLogin(ctx, src)
	if err != nil {
		return nil, err
	}
	if r.opts.insecure(src.host) {
		src.remote, err = src.ask(name.Insecure)
		if err != nil {
			return nil, err
		}
	}
	c := &conversation{src: src, authFile: file}
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

// through has a conversation about src with its registry's mirrors, one after the other, and then with the
// registry itself, until one has an answer. Where none has, the registry's own error is the one to know.
func through[T any](ctx context.Context, r *Resolver, src source, have func(c *conversation) (T, error)) (T, error) {
	for _, place := range append(r.mirrors(src), src) {
		c, err := r.open(ctx, place)
		var answer T
		if err == nil {
			answer, err = have(c)
			if err != nil {
				err = c.explain(ctx, err)
			}
		}
		if err == nil || place.host == src.host || ctx.Err() != nil || errors.Is(err, ErrPlatform) {
			return answer, err
		}
		r.opts.Log.DebugContext(ctx, "mirror passed over", "image", src.String(), "mirror", place.host, "err", err)
	}
	panic("unreachable: the last place is the registry itself")
}

// mirrors are the places that the settings name before src's own registry.
func (r *Resolver) mirrors(src source) []source {
	var out []source
	for _, m := range r.opts.Mirrors[src.host] {
		host, prefix, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(m, "https://"), "http://"), "/")
		there := src
		there.host, there.path = host, strings.TrimPrefix(strings.Trim(prefix, "/")+"/"+src.path, "/")
		var err error
		there.remote, err = there.ask()
		if err == nil && host != src.host {
			out = append(out, there)
		}
	}
	return out
}

func (r *Resolver) resolve(ctx context.Context, src source, written string, names bool) (plan.Image, error) {
	want, err := platform(written, r.opts.Arch)
	if err != nil {
		return plan.Image{}, err
	}
	return through(ctx, r, src, func(c *conversation) (plan.Image, error) {
		c.want = want
		img, err := c.read(names)
		img.Ref, img.Server, img.Alias = src.String(), src.server(), src.pinned(img.Alias)
		return img, err
	})
}

func (r *Resolver) digest(ctx context.Context, src source) (string, error) {
	return through(ctx, r, src, func(c *conversation) (string, error) {
		desc, err := remote.Head(c.src.remote, c.opts...)
		if err == nil {
			return desc.Digest.String(), nil
		}
		if !headless(err) {
			return "", err
		}
		full, err := remote.Get(c.src.remote, c.opts...)
		if err != nil {
			return "", err
		}
		return full.Digest.String(), nil
	})
}

// headless tells whether err comes from an answer to HEAD that is a success but lacks the headers which make
// it useful; a few registries are like that.
func headless(err error) bool {
	var status *transport.Error
	var broken *url.Error
	return !errors.As(err, &status) && !errors.As(err, &broken)
}

// read has the conversation: manifest, config, and the users' tables where they matter. Alias is the chosen
// manifest's digest.
func (c *conversation) read(names bool) (plan.Image, error) {
	desc, err := remote.Get(c.src.remote, c.opts...)
	if err != nil {
		return plan.Image{}, err
	}
	chosen, single, err := c.choose(desc)
	if err != nil {
		return plan.Image{}, err
	}
	img, p, err := describe(chosen, c.src.String(), names)
	if err != nil {
		return plan.Image{}, err
	}
	img.Digest = desc.Digest.String()
	if single {
		err = c.want.check(p)
	}
	return img, err
}

// describe fills in what an image itself says; its manifest's digest is in Digest and Alias.
func describe(from v1.Image, ref string, names bool) (plan.Image, v1.Platform, error) {
	digest, err := from.Digest()
	if err != nil {
		return plan.Image{}, v1.Platform{}, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := manifest(from)
	if err != nil {
		return plan.Image{}, v1.Platform{}, err
	}
	img := plan.Image{
		Ref: ref, Fingerprint: fingerprint(m.Layers), Config: m.Config.Digest.String(),
		Digest: digest.String(), Alias: digest.String(),
	}
	for _, l := range m.Layers {
		img.Size += l.Size
	}
	own, err := markOf(img.Config)
	if err != nil {
		return plan.Image{}, v1.Platform{}, err
	}
	img.MarkedFingerprint = fingerprint(append(slices.Clip(m.Layers), v1.Descriptor{Digest: hashOf(own.blob)}))
	config, err := from.RawConfigFile()
	if err != nil {
		return plan.Image{}, v1.Platform{}, fmt.Errorf("read the config: %w", err)
	}
	p, err := setConfig(&img, config)
	if err != nil {
		return plan.Image{}, v1.Platform{}, err
	}
	return img, p, setUsers(&img, from, names)
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

package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hub is Docker Hub's name in references, hubAPI the host that answers for it.
const (
	hub    = "docker.io"
	hubAPI = "registry-1.docker.io"
)

// source is a parsed reference.
type source struct {
	// host is the registry ("docker.io", "[::1]:5000"), path the repository in it ("library/nginx").
	host, path string
	// tag or digest, or both, are set.
	tag, digest string
	// remote names the same for go-containerregistry.
	remote name.Reference
}

// Normalize returns the fully qualified form of a reference: "nginx" becomes
// "docker.io/library/nginx:latest". A digest is kept, beside the tag where both are written. The error is
// ErrInvalid and says what is wrong and what to write instead.
//
// The grammar is that of the distribution project, as in Docker.
func Normalize(ref string) (string, error) {
	s, err := parse(ref)
	if err != nil {
		return "", err
	}
	return s.String(), nil
}

// Source returns what Incus is told to pull: the registry's URL ("https://docker.io") and the image in it
// ("library/nginx:1.27", with "@sha256:…" appended when the reference has a digest). The error is ErrInvalid.
func Source(ref string) (server, alias string, err error) {
	s, err := parse(ref)
	if err != nil {
		return "", "", err
	}
	return s.server(), s.alias(), nil
}

// String returns the normalized reference.
func (s source) String() string { return s.host + "/" + s.alias() }

func (s source) server() string { return "https://" + s.host }

func (s source) alias() string {
	out := s.path
	if s.tag != "" {
		out += ":" + s.tag
	}
	if s.digest != "" {
		out += "@" + s.digest
	}
	return out
}

// pinned is the alias of exactly the manifest with the digest, whatever the tag means by then.
func (s source) pinned(digest string) string {
	s.digest = digest
	return s.alias()
}

func parse(ref string) (source, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || imageID.MatchString(ref) || shouting(reference.Domain(named)) {
		return source{}, fmt.Errorf("image %q: %w: %s", ref, ErrInvalid, whatIsWrong(ref))
	}
	named = reference.TagNameOnly(named)
	s := source{host: reference.Domain(named), path: reference.Path(named)}
	tagged, ok := named.(reference.Tagged)
	if ok {
		s.tag = tagged.Tag()
	}
	digested, ok := named.(reference.Digested)
	if ok {
		s.digest = digested.Digest().String()
	}
	s.remote, err = s.ask()
	if err != nil {
		return source{}, fmt.Errorf("image %q: %w: %w", ref, ErrInvalid, err)
	}
	return s, nil
}

var (
	// incusAlias matches an image of an Incus image server, "images:alpine/edge"; a registry's port is digits.
	incusAlias = regexp.MustCompile(`^[a-z][a-z0-9-]*:[a-z][^:@]*/[^:@]+$`)
	imageID    = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)
)

// ask names the source for go-containerregistry, part by part: as a string it would be taken apart by other
// rules than the grammar's ("localhost/app" would be looked for at Docker Hub).
func (s source) ask(how ...name.Option) (name.Reference, error) {
	host := s.host
	if host == hub {
		host = hubAPI
	}
	registry, err := name.NewRegistry(host, how...)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	repository := registry.Repo(s.path)
	if s.digest == "" {
		return repository.Tag(s.tag), nil
	}
	_, err = v1.NewHash(s.digest)
	if err != nil {
		return nil, fmt.Errorf("digest %s: %w: write name@sha256: and its 64 digits", s.digest, err)
	}
	return repository.Digest(s.digest), nil
}

// shouting tells whether a host is more likely a name in the wrong case: the grammar takes the first part of
// "Owner/app" for a host.
func shouting(host string) bool {
	return host != strings.ToLower(host) && !strings.ContainsAny(host, ".:")
}

// whatIsWrong explains why a reference was refused, in terms of what to write.
func whatIsWrong(ref string) string {
	scheme, rest, hasScheme := strings.Cut(ref, "://")
	switch {
	case strings.TrimSpace(ref) == "":
		return "it is empty: write a name such as nginx:alpine"
	case strings.ContainsAny(ref, " \t\r\n"):
		return "it contains white space: write " + strings.Join(strings.Fields(ref), "")
	case strings.Contains(ref, "$"):
		return "it contains a variable that was not replaced: set it in the stack's .env file"
	case hasScheme:
		return fmt.Sprintf("it begins with %s://: write %s", scheme, rest)
	case imageID.MatchString(ref):
		return "this is an image's id: write name@sha256:" + strings.TrimPrefix(ref, "sha256:")
	case incusAlias.MatchString(ref):
		return "this names an image of an Incus image server, and services run registry images: write one such as docker.io/library/alpine:latest"
	case valid(lowerName(ref)):
		return "the name must be lower case: write " + lowerName(ref)
	case len(ref) > reference.RepositoryNameTotalLengthMax:
		return fmt.Sprintf("the name is longer than %d characters", reference.RepositoryNameTotalLengthMax)
	case strings.Contains(ref, "@"):
		return `what follows "@" must be a digest: write name@sha256: and its 64 digits of 0-9 and a-f`
	case strings.HasSuffix(ref, ":"):
		return "the tag is missing: write " + ref + "latest, or leave the colon out"
	}
	return "write [registry/]name[:tag][@digest] with names of lower-case letters, digits and single . _ - between them, for example ghcr.io/owner/app:1.2"
}

func valid(ref string) bool {
	_, err := reference.ParseNormalizedNamed(ref)
	return err == nil
}

// lowerName lowers the name in ref and leaves tag and digest as they are.
func lowerName(ref string) string {
	end := len(ref)
	at := strings.IndexByte(ref, '@')
	if at >= 0 {
		end = at
	}
	colon := strings.LastIndexByte(ref[:end], ':')
	if colon > strings.LastIndexByte(ref[:end], '/') {
		end = colon
	}
	return strings.ToLower(ref[:end]) + ref[end:]
}

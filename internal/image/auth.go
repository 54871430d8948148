package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// authFile is the part of docker's config.json, and of podman's auth.json, that holds logins.
type authFile struct {
	Auths       map[string]authn.AuthConfig `json:"auths"`
	CredHelpers map[string]string           `json:"credHelpers"`
	CredsStore  string                      `json:"credsStore"`
}

// readAuth reads the auth file; without one, or while it does not exist yet, nobody is logged in. It is read
// anew for every conversation, so a login takes effect at once.
func readAuth(path string) (authFile, error) {
	if path == "" {
		return authFile{}, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return authFile{}, nil
	}
	if err != nil {
		return authFile{}, fmt.Errorf("%w: read the auth file: %w", ErrUnauthorized, err)
	}
	var f authFile
	err = json.Unmarshal(data, &f)
	if err != nil {
		return authFile{}, fmt.Errorf("%w: the auth file %s is damaged: %w", ErrUnauthorized, path, err)
	}
	return f, nil
}

// login returns the login for the image; ok is false when there is none. A login for a repository or a
// namespace ("quay.io/team") goes before that for the whole registry, as in containers-auth.json(5). A login
// that only a credential helper could give is an error: a daemon runs no helpers.
func (f authFile) login(s source) (cfg authn.AuthConfig, ok bool, err error) {
	byPlace := map[string]authn.AuthConfig{}
	for key, cfg := range f.Auths {
		byPlace[place(key)] = cfg
	}
	for at := s.host + "/" + s.path; at != ""; at = parent(at) {
		cfg, listed := byPlace[at]
		if cfg != (authn.AuthConfig{}) {
			return cfg, true, nil
		}
		if listed && f.CredsStore != "" {
			return cfg, false, helperError(f.CredsStore, at)
		}
	}
	for key, helper := range f.CredHelpers {
		if place(key) == s.host {
			return cfg, false, helperError(helper, s.host)
		}
	}
	return cfg, false, nil
}

func helperError(helper, place string) error {
	return fmt.Errorf("%w: the login for %s is kept by the credential helper %q, which a daemon does not run: write it into the auth file, with skopeo login --authfile",
		ErrUnauthorized, place, helper)
}

// place is what a key of "auths" stands for, as "host" or "host/path"; docker writes Docker Hub as
// "https://index.docker.io/v1/".
func place(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	key = strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
	host, path, nested := strings.Cut(key, "/")
	if host == "index.docker.io" || host == hubAPI {
		host = hub
	}
	if !nested {
		return host
	}
	return host + "/" + path
}

// parent cuts the last element off a path; that of a single element is empty.
func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[:i]
}

// keepSecret refuses to send a login in the clear. go-containerregistry falls back to plain http for
// registries with a private address, which anyone in between can provoke.
type keepSecret struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (k keepSecret) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && req.Header.Get("Authorization") != "" && !loopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%s speaks no https, and a login is not sent in the clear", req.URL.Host)
	}
	return k.next.RoundTrip(req)
}

func loopback(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

package image

import (
	"context"
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

// readAuth reads one auth file; one that does not exist holds no logins.
func readAuth(path string) (authFile, error) {
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

// findLogin looks for a login for the image in the auth files, the first that has one; file is where it was
// found, or else where one would be looked for. The files are read anew for every conversation, so a login
// takes effect at once.
func (r *Resolver) findLogin(ctx context.Context, s source) (cfg authn.AuthConfig, file string, ok bool, err error) {
	for _, file = range r.opts.AuthFiles {
		f, err := readAuth(file)
		if err != nil {
			return cfg, file, false, err
		}
		cfg, ok, err := f.login(ctx, s)
		if err != nil || ok {
			return cfg, file, ok, err
		}
	}
	return cfg, file, false, nil
}

// login returns the login for the image; ok is false when there is none. A login for a repository or a
// namespace ("quay.io/team") goes before that for the whole registry, as in containers-auth.json(5). A
// registry's own credential helper goes before both, and the common one (credsStore) is asked last.
func (f authFile) login(ctx context.Context, s source) (cfg authn.AuthConfig, ok bool, err error) {
	for key, helper := range f.CredHelpers {
		if place(key) == s.host {
			return askHelper(ctx, helper, key)
		}
	}
	byPlace := map[string]authn.AuthConfig{}
	for key, cfg := range f.Auths {
		byPlace[place(key)] = cfg
	}
	for at := s.host + "/" + s.path; at != ""; at = parent(at) {
		cfg := byPlace[at]
		if cfg != (authn.AuthConfig{}) {
			return cfg, true, nil
		}
	}
	if f.CredsStore == "" {
		return cfg, false, nil
	}
	key := s.host
	if key == hub {
		key = "https://index.docker.io/v1/" // as docker login stores it
	}
	return askHelper(ctx, f.CredsStore, key)
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
// registries with a private address, which anyone in between can provoke. Where the settings call a registry
// insecure, that was the user's choice.
type keepSecret struct {
	next     http.RoundTripper
	insecure func(host string) bool
}

// RoundTrip implements http.RoundTripper.
func (k keepSecret) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && req.Header.Get("Authorization") != "" && !loopback(req.URL.Hostname()) && !k.insecure(req.URL.Host) {
		return nil, fmt.Errorf("%s speaks no https, and a login is not sent in the clear", req.URL.Host)
	}
	return k.next.RoundTrip(req)
}

func loopback(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

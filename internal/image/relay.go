package image

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// RelayServer is the name Incus is told for images that come through the relay. The package's
	// /etc/containers/registries.conf.d/ic-agent.conf leads it to relayAddr, for Incus's skopeo.
	RelayServer = "https://ic-agent.invalid"
	relayAddr   = "127.0.0.1:7853"
)

// relay is a read-only registry on the loopback, open only while Incus pulls through it. It serves each image
// under a name that cannot be guessed, so that other users of the host find nothing there.
type relay struct {
	addr string

	mu     sync.Mutex
	served map[string]*serving
	server *http.Server // nil while nothing is served
	at     net.Addr
}

// serving is one image that is being handed over.
type serving struct {
	img v1.Image
	// counter holds how many bytes of layers were sent.
	counter counter
}

// counter counts what is written to it.
type counter struct{ atomic.Int64 }

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

// serve offers an image until end is called. alias is its name at RelayServer.
func (r *relay) serve(ctx context.Context, img v1.Image, called string) (s *serving, alias string, end func(), err error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, "", nil, fmt.Errorf("read the manifest: %w", err)
	}
	name := strings.ToLower(rand.Text()) + "/" + path.Base(called)
	s = &serving{img: img}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		err = r.open(ctx)
		if err != nil {
			return nil, "", nil, err
		}
	}
	if r.served == nil {
		r.served = map[string]*serving{}
	}
	r.served[name] = s
	return s, name + "@" + digest.String(), func() { r.end(name) }, nil
}

// open begins to listen; the caller holds the lock.
func (r *relay) open(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", r.addr)
	if err != nil {
		return fmt.Errorf("%w: open the relay through which Incus gets this image: %w (what holds the port? \"ss -lntp\" shows it)", ErrUnavailable, err)
	}
	r.at = l.Addr()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	server := r.server
	go func() { _ = server.Serve(l) }() // ends with its Close
	return nil
}

// end stops offering an image, and with the last one listening.
func (r *relay) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.served, name)
	if len(r.served) == 0 && r.server != nil {
		_ = r.server.Close() // whoever still reads has no right to
		r.server = nil
	}
}

// ServeHTTP speaks the part of the OCI distribution specification that pulling needs.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	rest, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok || req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	parts := strings.Split(rest, "/")
	if rest == "" {
		return
	}
	if len(parts) != 4 {
		http.NotFound(w, req)
		return
	}
	name, kind, what := parts[0]+"/"+parts[1], parts[2], parts[3]
	r.mu.Lock()
	s := r.served[name]
	r.mu.Unlock()
	switch {
	case s == nil:
		http.NotFound(w, req)
	case kind == "tags" && what == "list":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "tags": []string{}}) // a caller gone wants nothing
	case kind == "manifests":
		s.manifest(w, req, what)
	case kind == "blobs":
		s.blob(w, req, what)
	default:
		http.NotFound(w, req)
	}
}

func (s *serving) manifest(w http.ResponseWriter, req *http.Request, want string) {
	digest, err := s.img.Digest()
	if err != nil || digest.String() != want {
		http.NotFound(w, req)
		return
	}
	body, err := s.img.RawManifest()
	media, merr := s.img.MediaType()
	if err != nil || merr != nil {
		http.Error(w, "the manifest cannot be read", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", string(media))
	w.Header().Set("Docker-Content-Digest", digest.String())
	send(w, req, body)
}

func send(w http.ResponseWriter, req *http.Request, body []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if req.Method == http.MethodGet {
		_, _ = w.Write(body) // a caller gone wants nothing
	}
}

// blob sends the config or a layer.
func (s *serving) blob(w http.ResponseWriter, req *http.Request, want string) {
	config, err := s.img.ConfigName()
	if err == nil && config.String() == want {
		body, err := s.img.RawConfigFile()
		if err != nil {
			http.Error(w, "the config cannot be read", http.StatusBadGateway)
			return
		}
		send(w, req, body)
		return
	}
	hash, err := v1.NewHash(want)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	layer, err := s.img.LayerByDigest(hash)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	size, err := layer.Size()
	if err != nil {
		http.Error(w, "the layer cannot be read", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(size))
	if req.Method == http.MethodHead {
		return
	}
	body, err := layer.Compressed()
	if err != nil {
		http.Error(w, "the layer cannot be read", http.StatusBadGateway)
		return
	}
	defer func() { _ = body.Close() }() // read only
	_, err = io.Copy(io.MultiWriter(w, &s.counter), body)
	if err != nil {
		panic(http.ErrAbortHandler) // half a layer must not look like a whole one
	}
}

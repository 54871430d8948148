package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// directory is an image in containers-image's "dir" format: manifest.json, and the blobs by their digests' digits.
// Unlike an OCI layout it keeps Docker's config as it is, HEALTHCHECK included.
type directory struct {
	path     string
	raw      []byte
	manifest *v1.Manifest
}

// openDirectory opens the image in a directory. The errors are ErrGone and ErrFormat.
func openDirectory(path string) (v1.Image, error) {
	raw, err := os.ReadFile(filepath.Join(path, "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: open the built image: %w", ErrFormat, err)
	}
	d := directory{path: path, raw: raw, manifest: &v1.Manifest{}}
	err = json.Unmarshal(raw, d.manifest)
	if err != nil {
		return nil, fmt.Errorf("%w: the manifest of the built image is damaged: %w", ErrFormat, err)
	}
	img, err := partial.CompressedToImage(d)
	if err != nil {
		return nil, fmt.Errorf("%w: open the built image: %w", ErrFormat, err)
	}
	return img, nil
}

// MediaType implements partial.CompressedImageCore, as the methods below do.
func (d directory) MediaType() (types.MediaType, error) { return d.manifest.MediaType, nil }

// RawManifest returns the manifest as it is on disk.
func (d directory) RawManifest() ([]byte, error) { return d.raw, nil }

// RawConfigFile returns the config as it is on disk.
func (d directory) RawConfigFile() ([]byte, error) {
	return os.ReadFile(filepath.Join(d.path, d.manifest.Config.Digest.Hex))
}

// LayerByDigest returns one of the layers.
func (d directory) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range d.manifest.Layers {
		if l.Digest == h {
			return layerFile{l, filepath.Join(d.path, h.Hex)}, nil
		}
	}
	return nil, fmt.Errorf("there is no layer %s", h)
}

// layerFile is a layer in a file.
type layerFile struct {
	v1.Descriptor
	path string
}

// Digest implements partial.CompressedLayer, as the methods below do.
func (l layerFile) Digest() (v1.Hash, error) { return l.Descriptor.Digest, nil }

// Compressed returns the layer as it is on disk, which may be without compression.
func (l layerFile) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Size is that of the file.
func (l layerFile) Size() (int64, error) { return l.Descriptor.Size, nil }

// MediaType is what the manifest says.
func (l layerFile) MediaType() (types.MediaType, error) { return l.Descriptor.MediaType, nil }

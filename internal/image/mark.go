package image

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// mark is an empty layer that is another one for each config. On top of an image's own layers it gives the
// image a fingerprint of its own in Incus, which otherwise knows images by their layers alone, and would run
// two that differ in their config as one.
type mark struct{ blob []byte }

// nothing is a tar file without entries.
var nothing = make([]byte, 1024)

func markOf(config string) (mark, error) {
	var b bytes.Buffer
	// Without compression the bytes stay the same with every version of the library.
	w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		return mark{}, fmt.Errorf("make the mark: %w", err)
	}
	w.Comment = config
	_, err = w.Write(nothing)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return mark{}, fmt.Errorf("make the mark: %w", err)
	}
	return mark{b.Bytes()}, nil
}

// marked puts the mark on an image.
func marked(img v1.Image) (v1.Image, error) {
	config, err := img.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := markOf(config.String())
	if err != nil {
		return nil, err
	}
	media, err := img.MediaType()
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	kind := types.DockerLayer
	if media == types.OCIManifestSchema1 {
		kind = types.OCILayer
	}
	out, err := mutate.Append(img, mutate.Addendum{Layer: m, MediaType: kind})
	if err != nil {
		return nil, fmt.Errorf("mark the image: %w", err)
	}
	return out, nil
}

func hashOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// Digest implements v1.Layer, as the methods below do.
func (m mark) Digest() (v1.Hash, error) { return hashOf(m.blob), nil }

// DiffID is that of the layer without its compression.
func (m mark) DiffID() (v1.Hash, error) { return hashOf(nothing), nil }

// Compressed returns the layer.
func (m mark) Compressed() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.blob)), nil }

// Uncompressed returns the empty tar file.
func (m mark) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(nothing)), nil
}

// Size is that of the layer as it is sent.
func (m mark) Size() (int64, error) { return int64(len(m.blob)), nil }

// MediaType is Docker's; an OCI image says its own.
func (m mark) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }

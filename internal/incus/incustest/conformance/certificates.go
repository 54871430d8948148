package conformance

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"time"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// imageSent sends the least that Incus takes for a container's image.
func imageSent(s *suite) {
	s.do(createProject())
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	meta := []byte("architecture: x86_64\ncreation_date: 1\nproperties:\n  description: conformance\n")
	s.must(w.WriteHeader(&tar.Header{Name: "metadata.yaml", Mode: 0o644, Size: int64(len(meta))}))
	_, err := w.Write(meta)
	s.must(err)
	s.must(w.WriteHeader(&tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir, Mode: 0o755}))
	s.must(w.Close())
	sum := sha256.Sum256(archive.Bytes())
	fingerprint := hex.EncodeToString(sum[:])
	remove := plan.DeleteImage{Fingerprint: fingerprint, Owner: owner}
	defer func() { s.do(remove) }()
	s.must(s.c.ImportImage(s.Context(), project, fingerprint, owner, archive.Bytes()))
	s.must(s.c.ImportImage(s.Context(), project, fingerprint, "somebody", archive.Bytes()))
	if i := s.observe().Images[fingerprint]; i.Owner != owner {
		s.Errorf("got %+v", i)
	}
	s.do(remove)
	_, there := s.observe().Images[fingerprint]
	if there {
		s.Error("the image is still there")
	}
}

func certificateLife(s *suite) {
	s.do(createProject())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	s.must(err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	sum := sha256.Sum256(der)
	fingerprint := hex.EncodeToString(sum[:])
	defer func() { s.must(s.c.Distrust(s.Context(), fingerprint)) }()
	s.must(s.c.Trust(s.Context(), "ct-one", "the first", project, text))
	s.must(s.c.Trust(s.Context(), "ct-two", "the second", project, text))
	find := func() (found incus.Certificate, there bool) {
		all, err := s.c.Trusted(s.Context())
		s.must(err)
		i := slices.IndexFunc(all, func(c incus.Certificate) bool { return c.Fingerprint == fingerprint })
		if i >= 0 {
			found = all[i]
		}
		return found, i >= 0
	}
	got, _ := find()
	if got.Name != "ct-one" || got.Description != "the first" || len(got.Projects) != 1 || got.Projects[0] != project {
		s.Errorf("got %+v", got)
	}
	s.must(s.c.Distrust(s.Context(), fingerprint))
	_, there := find()
	if there {
		s.Error("it is still trusted")
	}
}

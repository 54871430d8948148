package incustest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// Certificates returns copies of the trusted certificates, sorted by fingerprint.
func (s *Server) Certificates() []api.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.Certificate{}
	for _, c := range s.certificates {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b api.Certificate) int { return strings.Compare(a.Fingerprint, b.Fingerprint) })
	return list
}

func (s *Server) getCertificates(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "1" {
		return s.violation(r)
	}
	return ok(s.Certificates())
}

func (s *Server) postCertificate(r *http.Request) reply {
	var req api.CertificatesPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	if req.Type != "client" || req.Token || req.Certificate == "" {
		return s.violation(r)
	}
	der, err := base64.StdEncoding.DecodeString(req.Certificate)
	if err != nil {
		return failed(badRequest("%s", err))
	}
	sum := sha256.Sum256(der)
	fingerprint := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certificates[fingerprint] != nil {
		return fail(http.StatusConflict, "Certificate already in trust store")
	}
	for _, p := range req.Projects {
		if s.projects[p] == nil {
			return failed(notFound("Project"))
		}
	}
	put := req.CertificatePut
	put.Certificate = "" // shown in PEM, which nobody here reads
	s.certificates[fingerprint] = &api.Certificate{CertificatePut: put, Fingerprint: fingerprint}
	return ok(nil)
}

func (s *Server) deleteCertificate(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	fingerprint := r.PathValue("fingerprint")
	if s.certificates[fingerprint] == nil {
		return failed(notFound("Certificate"))
	}
	delete(s.certificates, fingerprint)
	return ok(nil)
}

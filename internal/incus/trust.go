package incus

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Endpoint is where an Incus server listens for certificates.
type Endpoint struct {
	// Address is core.https_address; empty when it does not listen.
	Address string
	// Fingerprint is the hex sha256 of its certificate.
	Fingerprint string
	// Architecture is the host's, in Incus's words: "x86_64".
	Architecture string
}

// Endpoint asks where the server listens.
func (c *Client) Endpoint(ctx context.Context) (Endpoint, error) {
	var srv *api.Server
	err := c.read(ctx, "", func(s incusapi.InstanceServer) (err error) {
		srv, _, err = s.GetServer()
		return err
	})
	if err != nil {
		return Endpoint{}, fmt.Errorf("read the Incus server: %w", err)
	}
	e := Endpoint{Address: srv.Config["core.https_address"], Fingerprint: srv.Environment.CertificateFingerprint}
	if len(srv.Environment.Architectures) > 0 {
		e.Architecture = srv.Environment.Architectures[0]
	}
	return e, nil
}

// ImportImage stores a container image, a tar archive with metadata.yaml and rootfs, unless it is there already, and
// notes its owner. fingerprint is the hex sha256 of the archive.
func (c *Client) ImportImage(ctx context.Context, project, fingerprint, owner string, archive []byte) error {
	images, err := c.images(ctx, project)
	_, there := images[fingerprint]
	if err != nil || there {
		return err
	}
	post := api.ImagesPost{Filename: "ic-healthd.tar", ImagePut: api.ImagePut{Properties: map[string]string{plan.KeyOwner: owner}}}
	_, err = c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.CreateImage(post, &incusapi.ImageCreateArgs{MetaFile: bytes.NewReader(archive), MetaName: post.Filename, Type: "container"})
	})
	if err != nil {
		return fmt.Errorf("import an image into project %s: %w", project, err)
	}
	return nil
}

// Certificate is one that Incus trusts.
type Certificate struct {
	// Fingerprint is its hex sha256, Name and Description say whose it is.
	Fingerprint, Name, Description string
	// Projects are those it may enter, for one that may not enter all.
	Projects []string
}

// Trust lets the holder of a certificate, in PEM, into one project and nowhere else. One that is trusted already is
// a success, and stays as it is.
func (c *Client) Trust(ctx context.Context, name, description, project, certificate string) error {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return errors.New("that is no certificate in PEM")
	}
	err := c.change(ctx, "", func(s incusapi.InstanceServer) error {
		return s.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{
			Name: name, Type: "client", Restricted: true, Projects: []string{project},
			Certificate: base64.StdEncoding.EncodeToString(block.Bytes), Description: description,
		}})
	})
	if err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("trust the certificate of %s: %w", name, err)
	}
	return nil
}

// Trusted returns all certificates that are trusted.
func (c *Client) Trusted(ctx context.Context) ([]Certificate, error) {
	var list []api.Certificate
	err := c.read(ctx, "", func(s incusapi.InstanceServer) (err error) {
		list, err = s.GetCertificates()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the trusted certificates: %w", err)
	}
	all := make([]Certificate, 0, len(list))
	for _, cert := range list {
		all = append(all, Certificate{cert.Fingerprint, cert.Name, cert.Description, cert.Projects})
	}
	return all, nil
}

// Distrust forgets a certificate; one that is not trusted is a success.
func (c *Client) Distrust(ctx context.Context, fingerprint string) error {
	err := gone(c.change(ctx, "", func(s incusapi.InstanceServer) error { return s.DeleteCertificate(fingerprint) }))
	if err != nil {
		return fmt.Errorf("forget certificate %.12s: %w", fingerprint, err)
	}
	return nil
}

// ReadFile returns a small text file of an instance; ErrNotFound when it does not exist.
func (c *Client) ReadFile(ctx context.Context, project, name, path string) (string, error) {
	v := url.Values{"project": {project}, "path": {path}}
	text, err := c.text(ctx, "/1.0/instances/"+url.PathEscape(name)+"/files?"+v.Encode())
	if err != nil {
		return "", fmt.Errorf("read %s in instance %s of project %s: %w", path, name, project, err)
	}
	return text, nil
}

// RemoveKeyVolume deletes a volume of ours that holds nothing but a key; mark is the config key that says so. A
// volume without it is somebody's data and stays; one that does not exist is a success.
func (c *Client) RemoveKeyVolume(ctx context.Context, project, pool, name, mark string) error {
	err := gone(c.change(ctx, project, func(s incusapi.InstanceServer) error {
		v, _, err := s.GetStoragePoolVolume(pool, "custom", name)
		if err != nil {
			return err
		}
		if v.Config[mark] != "true" {
			return fmt.Errorf("it has no %s=true, so it is not ours", mark)
		}
		return s.DeleteStoragePoolVolume(pool, "custom", name)
	}))
	if err != nil {
		return fmt.Errorf("delete volume %s of project %s: %w", name, project, err)
	}
	return nil
}

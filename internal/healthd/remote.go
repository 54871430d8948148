package healthd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// certificateFile and keyFile are in the state directory of a daemon that has a certificate. The key never leaves it.
const (
	certificateFile = "client.crt"
	keyFile         = "client.key"
)

// Remote is how a daemon reaches an Incus whose socket it does not have.
type Remote struct {
	// Address is host:port; empty means the local socket.
	Address string
	// Fingerprint is the hex sha256 of the server's certificate, the only one that is believed.
	Fingerprint string
	// Project is the only one that is looked after.
	Project string
}

// identity reads the certificate of a state directory, or makes one.
func identity(dir string) (tls.Certificate, error) {
	crt, key := filepath.Join(dir, certificateFile), filepath.Join(dir, keyFile)
	cert, err := tls.LoadX509KeyPair(crt, key)
	if !errors.Is(err, fs.ErrNotExist) {
		return cert, err
	}

	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}

	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "ic-healthd"}, NotBefore: now.Add(-24 * time.Hour),
		NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		return tls.Certificate{}, err
	}

	secret, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return tls.Certificate{}, err
	}

	err = replace(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	if err == nil {
		err = replace(crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}

	if err != nil {
		return tls.Certificate{}, err
	}

	return tls.LoadX509KeyPair(crt, key)
}

// fingerprint is the hex sha256 of a certificate, Incus's name for it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)

	return hex.EncodeToString(sum[:])
}

// fingerprintIn is that of a certificate in PEM; empty when there is none.
func fingerprintIn(text string) string {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return ""
	}

	return fingerprint(block.Bytes)
}

// dialer opens connections to a server that has exactly the certificate with the fingerprint.
func (r Remote) dialer(cert tls.Certificate) func(context.Context) (net.Conn, error) {
	d := &tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // not by its name and who signed it, but by what it is, below
		VerifyConnection: func(s tls.ConnectionState) error {
			if got := fingerprint(s.PeerCertificates[0].Raw); got != r.Fingerprint {
				return fmt.Errorf("the server at %s shows certificate %.12s instead of %.12s", r.Address, got, r.Fingerprint)
			}

			return nil
		},
	}}

	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", r.Address) }
}

// loopbackUp makes the guest's loopback work: nobody else does in a container without a network.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start the loopback: %w", err)
	}

	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}

	err = errors.Join(err, unix.Close(fd))
	if err != nil {
		return fmt.Errorf("start the loopback: %w", err)
	}

	return nil
}

// guestRemote is the Remote of the daemon that is the first process of an instance; no is false for any other.
func guestRemote() (Remote, bool) {
	r := Remote{Address: guestAddress, Fingerprint: os.Getenv(guestServer), Project: os.Getenv(guestProject)}

	return r, os.Getpid() == 1 && r.Project != "" && r.Fingerprint != ""
}

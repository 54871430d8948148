package healthd

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// guestImage makes the image of the guest: this program, as the first process of a container, and the directories it
// needs. The same program gives the same archive. sum is its hex sha256, Incus's name for it.
func guestImage(program []byte, architecture string) (archive []byte, sum string, err error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	meta := fmt.Sprintf("architecture: %q\ncreation_date: 1\nproperties:\n  description: ic-healthd\n  os: ic-healthd\n", architecture)
	add := func(h tar.Header, content []byte) {
		h.ModTime, h.Size = time.Unix(1, 0), int64(len(content))
		if err == nil {
			err = w.WriteHeader(&h)
		}

		if err == nil {
			_, err = w.Write(content)
		}
	}
	add(tar.Header{Name: "metadata.yaml", Typeflag: tar.TypeReg, Mode: 0o644}, []byte(meta))
	for _, dir := range []string{"", "dev", "etc", "proc", "run", "run/ic-healthd", "sbin", "sys", "tmp", "usr", "usr/bin", "var", "var/lib", "var/lib/ic-healthd"} {
		add(tar.Header{Name: "rootfs/" + dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}

	add(tar.Header{Name: "rootfs/etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/false\n"))
	add(tar.Header{Name: "rootfs/sbin/init", Typeflag: tar.TypeReg, Mode: 0o755}, program)
	add(tar.Header{Name: "rootfs/usr/bin/ic-healthd", Typeflag: tar.TypeSymlink, Linkname: "/sbin/init", Mode: 0o777}, nil)
	if err == nil {
		err = w.Close()
	}

	if err != nil {
		return nil, "", fmt.Errorf("make the image: %w", err)
	}

	digest := sha256.Sum256(buf.Bytes())

	return buf.Bytes(), hex.EncodeToString(digest[:]), nil
}

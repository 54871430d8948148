package build

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Both builders' words for the same images.
func TestTidyRemovesWhatWasBuiltLongAgo(t *testing.T) {
	now := time.Now()
	old, young := now.Add(-keepLayers-time.Hour).Unix(), now.Add(-time.Hour).Unix()
	for program, format := range map[string]string{
		"buildah": `{"id": %q, "names": %s, "created": %d}`,
		"podman":  `{"Id": %q, "Names": %s, "Created": %d}`,
	} {
		image := func(id, names string, created int64) string { return fmt.Sprintf(format, id, names, created) }
		list := "[" + strings.Join([]string{
			image("aa", "null", old), image("bb", `["localhost/blog-web:latest"]`, old), image("cc", `["docker.io/library/busybox:1"]`, old),
			image("dd", "null", young), image("ee", `["localhost/blog-web:latest"]`, old),
		}, ",") + "]"
		bin := t.TempDir()
		write(t, bin+"/list", list)
		write(t, bin+"/"+program, "#!/bin/sh\ncase \"$*\" in \"--root /s --runroot /r images \"*) cat "+bin+"/list ;; *) echo \"$*\" >> "+bin+"/did ;; esac\n")
		err := os.Chmod(bin+"/"+program, 0o755)
		if err != nil {
			t.Fatal(err)
		}

		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		tidy(t.Context(), program, "sha256:ee11", place{store: "/s", run: "/r"}, now)
		did, err := os.ReadFile(bin + "/did")
		want := "--root /s --runroot /r rmi aa\n--root /s --runroot /r rmi bb\n"
		if err != nil || string(did) != want {
			t.Errorf("%s did %q, want %q, %v", program, did, want, err)
		}
	}
}

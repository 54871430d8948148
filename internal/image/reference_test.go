package image_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/image"
)

const (
	hexDigits = "51a3000000000000000000000000000000000000000000000000000000ffee00"
	digest    = "sha256:" + hexDigits
)

func TestNormalizeQualifiesReferences(t *testing.T) {
	for _, tc := range []struct{ ref, want, server, alias string }{
		{"nginx", "docker.io/library/nginx:latest", "https://docker.io", "library/nginx:latest"},
		{"nginx:1.27", "docker.io/library/nginx:1.27", "https://docker.io", "library/nginx:1.27"},
		{"nginx:1.27-Alpine", "docker.io/library/nginx:1.27-Alpine", "https://docker.io", "library/nginx:1.27-Alpine"},
		{"grafana/grafana", "docker.io/grafana/grafana:latest", "https://docker.io", "grafana/grafana:latest"},
		{"docker.io/nginx", "docker.io/library/nginx:latest", "https://docker.io", "library/nginx:latest"},
		{"index.docker.io/library/nginx:1", "docker.io/library/nginx:1", "https://docker.io", "library/nginx:1"},
		{"ghcr.io/owner/app:v1", "ghcr.io/owner/app:v1", "https://ghcr.io", "owner/app:v1"},
		{"quay.io/a/b/c", "quay.io/a/b/c:latest", "https://quay.io", "a/b/c:latest"},
		{"localhost/app", "localhost/app:latest", "https://localhost", "app:latest"},
		{"localhost:5000/app:2", "localhost:5000/app:2", "https://localhost:5000", "app:2"},
		{"registry:5000/app", "registry:5000/app:latest", "https://registry:5000", "app:latest"},
		{"192.168.1.2:5000/a/b", "192.168.1.2:5000/a/b:latest", "https://192.168.1.2:5000", "a/b:latest"},
		{"[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest", "https://[2001:db8::1]:5000", "app:latest"},
		{"nginx@" + digest, "docker.io/library/nginx@" + digest, "https://docker.io", "library/nginx@" + digest},
		{"nginx:1@" + digest, "docker.io/library/nginx:1@" + digest, "https://docker.io", "library/nginx:1@" + digest},
		{"a_b/c--d.e:f", "docker.io/a_b/c--d.e:f", "https://docker.io", "a_b/c--d.e:f"},
	} {
		t.Run(tc.ref, func(t *testing.T) {
			got, err := image.Normalize(tc.ref)
			if err != nil || got != tc.want {
				t.Errorf("Normalize = %q, %v, want %q", got, err, tc.want)
			}
			server, alias, err := image.Source(tc.ref)
			if err != nil || server != tc.server || alias != tc.alias {
				t.Errorf("Source = %q, %q, %v, want %q, %q", server, alias, err, tc.server, tc.alias)
			}
		})
	}
}

func TestInvalidReferencesSayWhatToWrite(t *testing.T) {
	for _, tc := range []struct{ ref, want string }{
		{"", `image "": invalid reference: it is empty: write a name such as nginx:alpine`},
		{"Nginx", "must be lower case: write nginx"},
		{"ghcr.io/Owner/App:V1", "must be lower case: write ghcr.io/owner/app:V1"},
		{"Owner/App@" + digest, "must be lower case: write owner/app@" + digest},
		{"Owner/app", "must be lower case: write owner/app"},
		{" nginx", "white space: write nginx"},
		{"nginx: 1", "white space: write nginx:1"},
		{"https://ghcr.io/a/b:1", "begins with https://: write ghcr.io/a/b:1"},
		{"docker://nginx", "begins with docker://: write nginx"},
		{"nginx:${TAG}", "variable that was not replaced"},
		{hexDigits, "write name@" + digest},
		{digest, "write name@" + digest},
		{"nginx@sha256:12", `must be a digest: write name@sha256:`},
		{"nginx@latest", `must be a digest: write name@sha256:`},
		{"images:alpine/edge", "Incus image server"},
		{"nginx@sha384:" + strings.Repeat("0", 96), "write name@sha256:"},
		{"nginx:", "the tag is missing: write nginx:latest"},
		{"-nginx", "write [registry/]name[:tag][@digest]"},
		{"a..b", "write [registry/]name[:tag][@digest]"},
		{"nginx:" + strings.Repeat("1", 129), "write [registry/]name[:tag][@digest]"},
		{strings.Repeat("a/", 130) + "a", "longer than 255"},
	} {
		t.Run(tc.ref, func(t *testing.T) {
			got, err := image.Normalize(tc.ref)
			if !errors.Is(err, image.ErrInvalid) || got != "" {
				t.Fatalf("Normalize = %q, %v, want ErrInvalid", got, err)
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.ref) {
				t.Errorf("error = %q, want %q in it", err, tc.want)
			}
			_, _, err = image.Source(tc.ref)
			if !errors.Is(err, image.ErrInvalid) {
				t.Errorf("Source = %v, want ErrInvalid", err)
			}
		})
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:c", "localhost:5000/x@" + digest, "[::1]:5/x", "images:a/b", "A", "x:y@z", "https://a", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		full, err := image.Normalize(ref)
		if err != nil {
			if !errors.Is(err, image.ErrInvalid) {
				t.Fatalf("%q: %v is of no kind", ref, err)
			}
			return
		}
		again, err := image.Normalize(full)
		if err != nil || again != full {
			t.Fatalf("%q: %q became %q, %v", ref, full, again, err)
		}
		server, alias, err := image.Source(ref)
		if err != nil || strings.TrimPrefix(server, "https://")+"/"+alias != full {
			t.Fatalf("%q: %q but %q and %q, %v", ref, full, server, alias, err)
		}
	})
}

package build

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
)

// The programs that build, best first.
var programs = []string{"buildah", "podman", "docker"}

// place is where a builder works.
type place struct {
	// store is the builder's own, run is for what lasts as long as a build, out is the directory of the image.
	store, run, out string
	// idFile receives the image's id.
	idFile string
	// dockerfile is the file to read, authFile the logins; empty means none.
	dockerfile, authFile string
	// chroot says that there is no runtime for containers: buildah then does without.
	chroot bool
}

// global are the arguments before the verb.
func (p place) global(program string) []string {
	if program == "docker" {
		return nil
	}

	return []string{"--root", p.store, "--runroot", p.run}
}

// buildArgs is the command line that builds.
func buildArgs(program string, req Request, p place) []string {
	b := req.Spec
	args := append(p.global(program), "build", "--iidfile", p.idFile, "--file", p.dockerfile)
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				args = append(args, flag, v)
			}
		}
	}
	on := func(flag string, set bool) {
		if set {
			args = append(args, flag)
		}
	}

	if program != "docker" {
		// HEALTHCHECK and SHELL exist in Docker's format only.
		args = append(args, "--format", "docker", "--layers")
		add("--authfile", p.authFile)
		add("--ignorefile", existing(ignoreFile(b.Context, p.dockerfile)))
		if p.chroot {
			add("--isolation", "chroot")
		}
	}

	add("--tag", req.Name)
	add("--platform", req.Platform)
	add("--tag", b.Tags...)
	add("--target", b.Target)
	add("--build-arg", pairs(b.Args)...)
	add("--label", pairs(b.Labels)...)
	add("--cache-from", b.CacheFrom...)
	add("--network", network(program, b.Network, p.chroot))
	add("--add-host", b.ExtraHosts...)
	add("--build-context", pairs(b.Contexts)...)
	add("--ulimit", b.Ulimits...)
	add("--ssh", b.SSH...)
	for _, s := range b.Secrets {
		add("--secret", "id="+s.ID+",src="+s.File)
	}

	if b.ShmSize > 0 {
		add("--shm-size", strconv.FormatInt(b.ShmSize, 10))
	}

	on("--no-cache", b.NoCache)
	on("--pull", b.Pull && program == "docker")
	on("--pull=always", b.Pull && program != "docker")
	if b.Privileged && program != "docker" {
		add("--cap-add", "all")
		add("--security-opt", "seccomp=unconfined", "apparmor=unconfined")
	}

	on("--allow=security.insecure", b.Privileged && program == "docker")

	return append(args, "--", b.Context)
}

// network is what RUN sees; without a runtime there is only the host's.
func network(program, asked string, chroot bool) string {
	if program == "buildah" && chroot {
		return ""
	}

	return asked
}

// exportArgs are the command lines that put the image into p.out, one after the other.
func exportArgs(program, id string, p place) [][]string {
	to := "dir:" + p.out
	if program == "docker" {
		archive := filepath.Join(p.run, "image.tar")
		return [][]string{
			{"docker", "save", "--output", archive, id},
			{"skopeo", "--insecure-policy", "copy", "docker-archive:" + archive, to},
		}
	}

	return [][]string{append(append([]string{program}, p.global(program)...), "push", "--format", "v2s2", id, to)}
}

func pairs(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}

	return out
}

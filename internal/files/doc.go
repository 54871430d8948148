// Package files keeps the configs and secrets of instances on the host: each instance has a directory of its own on a
// tmpfs, which Incus mounts into it, read-only and with its users mapped. So no secret is ever in a root filesystem, a
// snapshot or Incus's database, and a new content reaches a running app.
//
//	DIR/<project>/<instance>/secrets/…    mounted at /run/secrets as one directory
//	DIR/<project>/<instance>/file-<hash>  a file mounted somewhere else
//	DIR/<project>/<instance>/.placed      the hash of it all, written last
//
// Nothing but the agent may enter DIR (mode 0700); Incus mounts as root. The files inside belong to whom the instance
// is to see as their owner, which takes CAP_CHOWN and nothing else: what is to be changed is taken back first.
package files

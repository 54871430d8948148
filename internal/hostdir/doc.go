// Package hostdir makes the missing directories of bind mounts on the host, as Docker does.
//
// The agent itself may write nowhere but into its own directories. Serve is the body of "ic-agent mkdir", which
// systemd starts as root for each connection to a socket that only the agent may open (ic-agent-mkdir.socket): it
// makes directories, root's with mode 0755, and can do nothing else.
package hostdir

// Package buffer makes room in the kernel for the questions that arrive while the agent restarts.
//
// How much a socket may hold is limited by net.core.rmem_max for whoever lacks CAP_NET_ADMIN: some 250 questions on
// Linux before 6.18. The agent has no such right. Serve is the body of "ic-agent buffer", which systemd starts with it
// for each connection to a socket that only the agent may open (ic-agent-buffer.socket): it enlarges the receive buffers
// of the UDP sockets it is handed (SO_RCVBUFFORCE, socket(7)), and can do nothing else. A socket keeps its buffer
// as long as it is open, restarts of the agent included.
package buffer

/* cares NAME...: as gai, by the library c-ares. */
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>

static void found(void *name, int status, int timeouts, struct ares_addrinfo *list)
{
	printf("%s", (char *)name);
	if (status != ARES_SUCCESS)
		printf(" error %s", status == ARES_ENOTFOUND ? "no such name" : ares_strerror(status));
	if (timeouts > 0)
		printf(" error %d timeouts", timeouts);
	for (struct ares_addrinfo_node *n = list != NULL ? list->nodes : NULL; n != NULL; n = n->ai_next) {
		char text[128];
		void *addr = n->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)n->ai_addr)->sin_addr
						     : (void *)&((struct sockaddr_in6 *)n->ai_addr)->sin6_addr;
		printf(" %s", inet_ntop(n->ai_family, addr, text, sizeof text));
	}
	printf("\n");
	ares_freeaddrinfo(list);
}

int main(int argc, char **argv)
{
	ares_channel channel;
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || ares_init(&channel) != ARES_SUCCESS)
		return 1;
	for (int i = 1; i < argc; i++) {
		struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
		ares_getaddrinfo(channel, argv[i], NULL, &hints, found, argv[i]);
		for (;;) {
			fd_set in, out;
			struct timeval tv;
			FD_ZERO(&in);
			FD_ZERO(&out);
			int n = ares_fds(channel, &in, &out);
			if (n == 0)
				break;
			select(n, &in, &out, NULL, ares_timeout(channel, NULL, &tv));
			ares_process(channel, &in, &out);
		}
	}
	ares_destroy(channel);
	return 0;
}

/* gai NAME...: prints the addresses getaddrinfo(3) finds, a name a line. Built against glibc and against musl. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
		int err = getaddrinfo(argv[i], NULL, &hints, &list);
		printf("%s", argv[i]);
		if (err != 0)
			printf(" error %s", err == EAI_NONAME ? "no such name" : gai_strerror(err));
		for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
			char text[128];
			if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
				printf(" %s", text);
		}
		printf("\n");
	}
	return 0;
}

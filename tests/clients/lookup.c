/* Looks names up as programs in C do, and prints `NAME<tab>RESULT`. `COUNTxNAME` looks NAME up COUNT times, in one
 * process, and says so if the results differ; an address is looked up for its name. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *meaning(int error)
{
    if (error == EAI_NONAME) return "not found";
#ifdef EAI_NODATA
    if (error == EAI_NODATA) return "not found";
#endif
    if (error == EAI_AGAIN) return "try again";
    if (error == EAI_FAIL) return "failure";
    return gai_strerror(error);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Into a text of the caller. */
static void forward(const char *name, char *result, size_t size)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL, *item;
    int error = getaddrinfo(name, NULL, &hints, &list);
    if (error) {
        snprintf(result, size, "%s", meaning(error));
        return;
    }
    char *found[1024];
    size_t count = 0;
    for (item = list; item && count < 1024; item = item->ai_next) {
        char text[INET6_ADDRSTRLEN];
        void *address = item->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)item->ai_addr)->sin_addr
                                                   : (void *)&((struct sockaddr_in6 *)item->ai_addr)->sin6_addr;
        inet_ntop(item->ai_family, address, text, sizeof text);
        found[count++] = strdup(text);
    }
    qsort(found, count, sizeof *found, by_text);
    *result = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(result + strlen(result), size - strlen(result), "%s%s", i ? "," : "", found[i]);
        free(found[i]);
    }
    freeaddrinfo(list);
}

static void reverse(struct in_addr address, char *result, size_t size)
{
    struct sockaddr_in socket_address = { .sin_family = AF_INET, .sin_addr = address };
    int error = getnameinfo((struct sockaddr *)&socket_address, sizeof socket_address, result, size, NULL, 0, NI_NAMEREQD);
    if (error) snprintf(result, size, "%s", meaning(error));
}

int main(int argc, char **argv)
{
    static char result[65536], first[65536];
    for (int i = 1; i < argc; i++) {
        char *name;
        long times = strtol(argv[i], &name, 10);
        struct in_addr address;
        if (inet_pton(AF_INET, argv[i], &address) == 1) {
            reverse(address, first, sizeof first);
        } else if (times > 0 && *name == 'x') {
            forward(++name, first, sizeof first);
            while (--times) {
                forward(name, result, sizeof result);
                if (strcmp(first, result)) {
                    snprintf(first, sizeof first, "varies: %.1000s", result);
                    break;
                }
            }
        } else {
            forward(argv[i], first, sizeof first);
        }
        printf("%s\t%s\n", argv[i], first);
    }
    return 0;
}

/* As lookup.c, with c-ares: one channel, as a program has it that asks for many names. */
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

static char result[65536];

static const char *meaning(int status)
{
    if (status == ARES_ENOTFOUND || status == ARES_ENODATA) return "not found";
    if (status == ARES_ESERVFAIL || status == ARES_ETIMEOUT || status == ARES_ECONNREFUSED) return "try again";
    return ares_strerror(status);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void addresses(void *unused, int status, int timeouts, struct ares_addrinfo *list)
{
    (void)unused, (void)timeouts;
    if (status != ARES_SUCCESS) {
        snprintf(result, sizeof result, "%s", meaning(status));
        return;
    }
    char *found[1024];
    size_t count = 0;
    for (struct ares_addrinfo_node *item = list->nodes; item && count < 1024; item = item->ai_next) {
        char text[INET6_ADDRSTRLEN];
        void *address = item->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)item->ai_addr)->sin_addr
                                                   : (void *)&((struct sockaddr_in6 *)item->ai_addr)->sin6_addr;
        inet_ntop(item->ai_family, address, text, sizeof text);
        found[count++] = strdup(text);
    }
    qsort(found, count, sizeof *found, by_text);
    *result = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(result + strlen(result), sizeof result - strlen(result), "%s%s", i ? "," : "", found[i]);
        free(found[i]);
    }
    ares_freeaddrinfo(list);
}

static void name(void *unused, int status, int timeouts, struct hostent *host)
{
    (void)unused, (void)timeouts;
    snprintf(result, sizeof result, "%s", status == ARES_SUCCESS ? host->h_name : meaning(status));
}

static void wait_for(ares_channel channel)
{
    for (;;) {
        fd_set readers, writers;
        struct timeval timeout;
        FD_ZERO(&readers);
        FD_ZERO(&writers);
        int limit = ares_fds(channel, &readers, &writers);
        if (!limit) return;
        select(limit, &readers, &writers, NULL, ares_timeout(channel, NULL, &timeout));
        ares_process(channel, &readers, &writers);
    }
}

int main(int argc, char **argv)
{
    ares_channel channel;
    ares_library_init(ARES_LIB_INIT_ALL);
    if (ares_init(&channel) != ARES_SUCCESS) return 1;
    for (int i = 1; i < argc; i++) {
        struct in_addr address;
        char first[sizeof result], *asked = argv[i];
        long times = strtol(argv[i], &asked, 10);
        if (inet_pton(AF_INET, argv[i], &address) == 1) {
            ares_gethostbyaddr(channel, &address, sizeof address, AF_INET, name, NULL);
            wait_for(channel);
        } else {
            asked = times > 0 && *asked == 'x' ? asked + 1 : argv[i];
            if (asked == argv[i]) times = 1;
            struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
            for (long n = 0; n < times; n++) {
                ares_getaddrinfo(channel, asked, NULL, &hints, addresses, NULL);
                wait_for(channel);
                if (n && strcmp(first, result)) {
                    char now[1000];
                    snprintf(now, sizeof now, "%.900s", result);
                    snprintf(result, sizeof result, "varies: %s", now);
                    break;
                }
                strcpy(first, result);
            }
        }
        printf("%s\t%s\n", argv[i], result);
    }
    return 0;
}

/* Lets the engine of a chdb library be one of several replicas: what only ClickHouse's server does at its start.
 *
 * The engine is clickhouse-local, which has all of ReplicatedMergeTree and speaks to ZooKeeper, but never says where
 * other replicas may fetch its parts, and serves them nowhere. No setting changes that, so three functions of the one
 * library that dev/fetch.py has pinned are changed in memory before it runs:
 *
 *   - what says this server's address to others says 127.0.0.1 and the HTTP port, and that they speak HTTP;
 *   - a fetch takes its user and password from an empty pair, instead of from a pointer that nobody has set;
 *   - the HTTP port serves parts to replicas instead of queries to clients.
 *
 * Each place is compared with what it holds in that library; with any other the launcher ends and says so. */
#include "interserver.h"

#if defined(__linux__) && defined(__x86_64__)
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Offsets in @chdb/lib-linux-x64-gnu 26.7.3-stable.1, found from the error that the first one throws without an address
 * and from the string "InterserverIOHTTPHandler-factory". A std::string of libc++ has 24 bytes: up to 22 characters from
 * its first byte on, and their number in its last. */
enum {
    ADDRESS = 0x1417c9c0,     /* returns a string and a port; 244 bytes, of which 160 are used here */
    EMPTY_PAIR = ADDRESS + 64, /* two empty strings, in what is left of it */
    SCHEME = 0x1417cac0,      /* returns a string */
    CREDENTIALS = 0x179c6000, /* loads the pointer to the pair */
    FACTORY = 0x18395d32,     /* jumps to the clients' handlers if that is the name of what is asked for */
    PAIR_BYTES = 96,
};

static int holds(const unsigned char *place, const char *expected, size_t count) {
    return memcmp(place, expected, count) == 0;
}

static int set_writable(const unsigned char *place, int writable) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t from = (size_t)place / page * page;
    return mprotect((void *)from, 2 * page, PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0));
}

static int put(unsigned char *place, const void *code, size_t count) {
    if (set_writable(place, 1) != 0)
        return -1;
    memcpy(place, code, count);
    return set_writable(place, 0);
}

const char *serve_replicas(unsigned char *library, unsigned short port) {
    unsigned char *address = library + ADDRESS, *scheme = library + SCHEME;
    unsigned char *credentials = library + CREDENTIALS, *factory = library + FACTORY;
    if (!holds(address, "\x41\x56\x53\x48\x83\xec\x48\x4c", 8) || !holds(scheme, "\x48\x8b\x06\x80\xb8\x87\x01", 7) ||
        !holds(credentials, "\x48\x8b\x83\xc0\x00\x00\x00\x80\x78\x17", 10) ||
        !holds(factory, "\x0f\x84\xc2\x02\x00\x00\x84\xc9", 8))
        return "the library is another one than dev/interserver.c was written for; find its offsets again";

    const unsigned char says_address[] = {
        0x66, 0xc7, 0x47, 0x18, port & 255, port >> 8,                    /* mov word [rdi+24], port */
        0x48, 0xb8, '1', '2', '7', '.', '0', '.', '0', '.',               /* mov rax, "127.0.0." */
        0x48, 0x89, 0x07,                                                 /* mov [rdi], rax */
        0x48, 0xc7, 0x47, 0x08, '1', 0, 0, 0,                             /* mov qword [rdi+8], "1" */
        0x48, 0xc7, 0x47, 0x10, 0, 0, 0, 0,                               /* mov qword [rdi+16], 0 */
        0xc6, 0x47, 0x17, 9,                                              /* mov byte [rdi+23], 9 */
        0x48, 0x89, 0xf8, 0xc3,                                           /* mov rax, rdi; ret */
    };
    const unsigned char says_http[] = {
        0x48, 0xc7, 0x07, 'h', 't', 't', 'p',   /* mov qword [rdi], "http" */
        0x48, 0xc7, 0x47, 0x08, 0, 0, 0, 0,     /* mov qword [rdi+8], 0 */
        0x48, 0xc7, 0x47, 0x10, 0, 0, 0, 0,     /* mov qword [rdi+16], 0 */
        0xc6, 0x47, 0x17, 4,                    /* mov byte [rdi+23], 4 */
        0x48, 0x89, 0xf8, 0xc3,                 /* mov rax, rdi; ret */
    };
    const unsigned char pair[PAIR_BYTES] = {0};
    unsigned char takes_pair[] = {0x48, 0x8d, 0x05, 0, 0, 0, 0}; /* lea rax, [rip + distance] */
    const int distance = (int)((library + EMPTY_PAIR) - (credentials + sizeof takes_pair));
    memcpy(takes_pair + 3, &distance, sizeof distance);
    const unsigned char to_replicas[] = {0x0f, 0x84, 0x84, 0, 0, 0}; /* je to what makes the replicas' handlers */

    if (put(address, says_address, sizeof says_address) != 0 || put(library + EMPTY_PAIR, pair, sizeof pair) != 0 ||
        put(scheme, says_http, sizeof says_http) != 0 || put(credentials, takes_pair, sizeof takes_pair) != 0 ||
        put(factory, to_replicas, sizeof to_replicas) != 0)
        return "the system does not let code be changed";
    return NULL;
}
#else
#include <stddef.h>

const char *serve_replicas(unsigned char *library, unsigned short port) {
    (void)library, (void)port;
    return "replicas are for Linux on x86_64 alone; use a ClickHouse server of your own";
}
#endif

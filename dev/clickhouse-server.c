/* Runs the ClickHouse engine of a chdb library as a server until SIGTERM or SIGINT, then shuts it down in order.
 *
 * usage: clickhouse-server [--replica] LIB DATA_DIR TCP_PORT HTTP_PORT [ENGINE_ARGUMENT...]
 * It listens on 127.0.0.1, unless an ENGINE_ARGUMENT is --listen_host=ADDRESS.
 *
 * The library's command line entry is clickhouse-local: it ends when its last statement ends. So the last statement
 * reads standard input, which is a pipe that only this process can write to. Closing the pipe ends the statement,
 * and the engine takes its normal way out: it finishes merges, writes its metadata and releases its locks.
 *
 * The engine sets an error handler that aborts when a client's greeting fails: a wrong password, a client that was
 * killed while it said hello, half an HTTP request. A ClickHouse server only closes that connection. So abort() is replaced (the library
 * finds ours first): a connection's thread lets its locks go and sleeps for ever, any other aborts as ever. Linux only.
 *
 * Exit codes: 0 shut down in order, 1 the engine ended by itself or did not end in time, 2 it could not be started. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interserver.h"

enum { SHUTDOWN_SECONDS = 20, HELD_MAX = 64 };

typedef void *(*run_function)(int argc, char **argv);
typedef const char *(*error_function)(void *result);
typedef void (*switch_function)(int enabled);

static int keep_open;                           /* the pipe's write end */
static volatile sig_atomic_t stopping;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("clickhouse-server: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

/* Where the library begins in memory. */
static unsigned char *start_of(void *function) {
    Dl_info info;
    if (dladdr(function, &info) == 0)
        fail("cannot find where the library was loaded");
    return info.dli_fbase;
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found)
        fail("the library has no function %s: it is no chdb library, or another version; run dev/fetch.py", name);
    return found;
}

static char *joined(const char *option, const char *value) {
    size_t size = strlen(option) + strlen(value) + 1;
    char *text = malloc(size);
    if (!text)
        fail("no memory for %s", option);
    snprintf(text, size, "%s%s", option, value);
    return text;
}

#ifdef __linux__
#include <sys/prctl.h>

/* The mutexes that the calling thread holds, the innermost last: what it must let go before it sleeps for ever.
 * The library calls these two names, which are libc's own for the functions without underscores. */
static _Thread_local pthread_mutex_t *held[HELD_MAX];
static _Thread_local int held_count;

int __pthread_mutex_lock(pthread_mutex_t *mutex) {
    int result = pthread_mutex_lock(mutex);
    if (result == 0 && held_count < HELD_MAX)
        held[held_count++] = mutex;
    return result;
}

int __pthread_mutex_unlock(pthread_mutex_t *mutex) {
    for (int i = held_count - 1; i >= 0; i--)
        if (held[i] == mutex) {
            memmove(&held[i], &held[i + 1], (size_t)(held_count - i - 1) * sizeof held[0]);
            held_count--;
            break;
        }
    return pthread_mutex_unlock(mutex);
}

/* Whether the calling thread serves a connection; the engine names its threads. */
static int serves_connection(void) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strncmp(name, "TCP", 3) == 0 || strncmp(name, "HTTP", 4) == 0;
}

void abort(void) {
    static const char message[] = "clickhouse-server: a client's greeting failed; its connection is left alone\n";
    if (serves_connection() && write(STDERR_FILENO, message, sizeof message - 1) > 0) {
        while (held_count > 0)
            pthread_mutex_unlock(held[--held_count]);
        for (;;)
            pause();
    }
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    _exit(128 + SIGABRT);
}
#endif

static void on_alarm(int number) {
    static const char message[] = "clickhouse-server: the engine did not shut down in time; ending without it\n";
    (void)number;
    if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
        _exit(1);
    _exit(1);
}

/* Waits for the first signal to stop; a second one changes nothing, the alarm bounds the wait. */
static void *stop_on_signal(void *signals) {
    int number;
    while (sigwait(signals, &number) != 0)
        ;
    stopping = 1;
    alarm(SHUTDOWN_SECONDS);
    close(keep_open);
    return NULL;
}

/* Makes standard input a pipe that gives nothing until stop_on_signal closes it. */
static void hold_stdin(void) {
    int ends[2];
    if (pipe(ends) != 0 || dup2(ends[0], STDIN_FILENO) < 0)
        fail("cannot make a pipe: %s", strerror(errno));
    close(ends[0]);
    keep_open = ends[1];
}

/* Blocked in every thread, the engine's too: only stop_on_signal takes these signals. */
static void watch_signals(void) {
    static sigset_t signals;
    pthread_t thread;
    struct sigaction action = {.sa_handler = on_alarm};
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, stop_on_signal, &signals) != 0)
        fail("cannot start a thread");
}

static char **engine_arguments(int argc, char **argv, int *count) {
    char **list = calloc((size_t)argc + 4, sizeof *list);
    int n = 0;
    if (!list)
        fail("no memory for the engine's arguments");
    list[n++] = "clickhouse";
    list[n++] = joined("--path=", argv[2]);
    list[n++] = joined("--tcp_port=", argv[3]);
    list[n++] = joined("--http_port=", argv[4]);
    int has_host = 0; /* the engine refuses a second one */
    for (int i = 5; i < argc; i++) {
        has_host |= strncmp(argv[i], "--listen_host=", strlen("--listen_host=")) == 0;
        list[n++] = argv[i];
    }
    if (!has_host)
        list[n++] = "--listen_host=127.0.0.1";
    list[n++] = "--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP;"
                " SELECT count() FROM file('-', 'LineAsString', 'line String')"
                " SETTINGS max_execution_time = 0 FORMAT Null";
    *count = n;
    return list;
}

int main(int argc, char **argv) {
    int replica = argc > 1 && strcmp(argv[1], "--replica") == 0;
    argc -= replica;
    argv += replica;
    if (argc < 5)
        fail("usage: clickhouse-server [--replica] LIB DATA_DIR TCP_PORT HTTP_PORT [ENGINE_ARGUMENT...]");
    hold_stdin();
    watch_signals();

    void *library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        fail("cannot load %s: %s; remove it and run dev/fetch.py", argv[1], dlerror());
    run_function run = (run_function)symbol(library, "chdb_query_cmdline");
    error_function error = (error_function)symbol(library, "chdb_result_error");
    /* The engine's own handlers would take SIGTERM as an order to quit at once. */
    switch_function handlers = (switch_function)dlsym(library, "chdb_set_signal_handlers_enabled");
    if (handlers)
        handlers(0);
    const char *refusal = replica ? serve_replicas(start_of((void *)run), (unsigned short)atoi(argv[4])) : NULL;
    if (refusal)
        fail("cannot be a replica: %s", refusal);

    int count;
    char **arguments = engine_arguments(argc, argv, &count);
    void *result = run(count, arguments);
    const char *reason = result ? error(result) : NULL;
    if (reason && *reason)
        fprintf(stderr, "clickhouse-server: the engine ended: %s\n", reason);
    else if (!stopping)
        fputs("clickhouse-server: the engine ended by itself\n", stderr);
    /* Not exit(): the library's destructors would run under threads that it may still have. */
    _exit(stopping && !(reason && *reason) ? 0 : 1);
}

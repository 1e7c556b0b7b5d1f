/* What the yardsticks share: an end with a message, clocks, aligned memory. */
#ifndef OXBOW_BENCH_YARDSTICK_H
#define OXBOW_BENCH_YARDSTICK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define PIECE ((size_t)64 << 10)
#define ALIGN ((size_t)4096)

__attribute__((noreturn)) static inline void die(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

static inline double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Processor seconds, of the user and of the system. */
static inline double cpu_of(const struct rusage *u) {
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e6;
}

static inline double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return cpu_of(&u);
}

static inline uint8_t *pages(size_t size) {
    void *p;
    if (posix_memalign(&p, ALIGN, size) != 0) die("memory");
    memset(p, 'x', size);
    return p;
}

#endif

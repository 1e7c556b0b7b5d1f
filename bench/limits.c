/* What this machine can do without any broker: the yardstick that the bench's figures are printed beside, taken in the
 * same run.
 *
 *   limits FOLDER
 *   limits FOLDER write BYTES DEPTH SECONDS
 *   limits FOLDER read FILE BYTES DEPTH
 *
 * One line of name=value pairs for each measurement on standard output. "cpu" is processor seconds (user and system)
 * per GB (10^9 bytes) of whoever does the work:
 *
 *   memcpy      64 KiB pieces between two buffers that do not fit the caches
 *   crc32c      ISA-L over 64 KiB pieces
 *   tcp         a loopback socket, 64 KiB sends; the sender's and the receiver's processor time apart
 *   sync_write  O_DIRECT|O_DSYNC writes one after the other into a file that was written before, at several sizes:
 *               latency
 *   file        a new file of 32 MiB written through the page cache, fsynced, deleted; again and again
 *   direct      the same with O_DIRECT from an aligned buffer that the bytes are copied into first
 *
 * The second form: O_DIRECT|O_DSYNC writes of one size, so many in flight (a thread each), into a file that was written
 * before. The third: the whole file is read once with O_DIRECT, one piece behind the other, so many in flight.
 *
 * FOLDER must be on the file system that the broker's data will be on. Its files are deleted at the end. */
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "yardstick.h"

#define LARGE ((size_t)256 << 20)
#define OBJECT ((size_t)32 << 20)
#define SYNC_FILE ((size_t)64 << 20)
#define DEPTH_MAX 64u

static void say(const char *name, double bytes, double began_cpu, double began) {
    double used = cpu() - began_cpu, took = seconds() - began;
    printf("%s cpu=%.3f gb_per_s=%.3f\n", name, used / (bytes / 1e9), bytes / 1e9 / took);
    fflush(stdout);
}

static void memory(void) {
    uint8_t *from = pages(LARGE), *to = pages(LARGE);
    double began_cpu = cpu(), began = seconds();
    for (unsigned round = 0; round < 8; round++) {
        for (size_t at = 0; at < LARGE; at += PIECE) {
            memcpy(to + at, from + at, PIECE);
            __asm__ volatile("" : : "r"(to) : "memory");
        }
    }
    say("memcpy", 8.0 * (double)LARGE, began_cpu, began);
    began_cpu = cpu(), began = seconds();
    volatile unsigned sum = 0;
    for (unsigned round = 0; round < 8; round++) {
        for (size_t at = 0; at < LARGE; at += PIECE) sum = sum + crc32_iscsi(from + at, (int)PIECE, ~0u);
    }
    say("crc32c", 8.0 * (double)LARGE, began_cpu, began);
    free(from);
    free(to);
}

/* The parent receives. */
static void tcp(void) {
    const double bytes = 2e9;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    if (l < 0 || bind(l, (struct sockaddr *)&a, n) != 0 || listen(l, 1) != 0 ||
        getsockname(l, (struct sockaddr *)&a, &n) != 0)
        die("listen");
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        uint8_t *data = pages(PIECE);
        if (s < 0 || connect(s, (struct sockaddr *)&a, n) != 0) die("connect");
        for (double sent = 0; sent < bytes;) {
            ssize_t k = send(s, data, PIECE, MSG_NOSIGNAL);
            if (k <= 0) die("send");
            sent += (double)k;
        }
        _exit(0);
    }
    int s = accept(l, NULL, NULL);
    uint8_t *data = pages(4 * PIECE);
    double began_cpu = cpu(), began = seconds(), got = 0;
    for (ssize_t k; (k = recv(s, data, 4 * PIECE, 0)) > 0;) got += (double)k;
    double used = cpu() - began_cpu, took = seconds() - began;
    struct rusage u;
    int status;
    if (wait4(child, &status, 0, &u) != child || status != 0) die("the sender");
    printf("tcp cpu=%.3f sender_cpu=%.3f gb_per_s=%.3f\n", used / (got / 1e9), cpu_of(&u) / (got / 1e9),
           got / 1e9 / took);
    fflush(stdout);
    close(s);
    close(l);
    free(data);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void sync_writes(void) {
    int fd = open("limits-sync", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0) die("open");
    uint8_t *data = pages(1 << 20);
    for (size_t at = 0; at < SYNC_FILE; at += 1 << 20) {
        if (pwrite(fd, data, 1 << 20, (off_t)at) != 1 << 20) die("write");
    }
    static const size_t sizes[] = {4096, 69632, 262144, 1 << 20};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        size_t size = sizes[k], count = SYNC_FILE / size < 1000 ? SYNC_FILE / size : 1000;
        double *took = calloc(count, sizeof(*took)), began_cpu = cpu(), began = seconds();
        for (size_t i = 0; i < count; i++) {
            double t = seconds();
            if (pwrite(fd, data, size, (off_t)(i * size)) != (ssize_t)size) die("write");
            took[i] = (seconds() - t) * 1e6;
        }
        double used = cpu() - began_cpu, whole = seconds() - began, bytes = (double)(count * size);
        qsort(took, count, sizeof(*took), by_size);
        printf("sync_write size=%zu p50_us=%.0f p99_us=%.0f cpu=%.3f gb_per_s=%.3f\n", size, took[count / 2],
               took[count * 99 / 100], used / (bytes / 1e9), bytes / 1e9 / whole);
        fflush(stdout);
        free(took);
    }
    close(fd);
    (void)unlink("limits-sync");
    free(data);
}

static void new_files(const char *name, int flags) {
    const unsigned files = 24;
    uint8_t *data = pages(OBJECT), *bounce = pages(1 << 20);
    double began_cpu = cpu(), began = seconds();
    for (unsigned f = 0; f < files; f++) {
        int fd = open("limits-file", O_WRONLY | O_CREAT | O_TRUNC | flags, 0600);
        if (fd < 0) die("open");
        if (fallocate(fd, 0, 0, (off_t)OBJECT) != 0 && errno != EOPNOTSUPP) die("fallocate");
        for (size_t at = 0; at < OBJECT; at += 1 << 20) {
            const uint8_t *from = data + at;
            if (flags & O_DIRECT) from = memcpy(bounce, from, 1 << 20);
            if (pwrite(fd, from, 1 << 20, (off_t)at) != 1 << 20) die("write");
        }
        if (fsync(fd) != 0) die("fsync");
        close(fd);
        (void)unlink("limits-file");
    }
    say(name, (double)files * (double)OBJECT, began_cpu, began);
    free(data);
    free(bounce);
}

/* --- Several in flight. */

struct stream {
    int fd;
    bool writes;
    size_t size;        /* of one */
    uint64_t file_size; /* a multiple of size, when written */
    double end;         /* when to stop writing */
    _Atomic uint64_t next, bytes;
};

static void *stream_run(void *arg) {
    struct stream *s = arg;
    uint8_t *data = pages(s->size);
    for (;;) {
        uint64_t at = atomic_fetch_add(&s->next, s->size);
        if (s->writes ? seconds() >= s->end : at >= s->file_size) break;
        ssize_t n = s->writes ? pwrite(s->fd, data, s->size, (off_t)(at % s->file_size))
                              : pread(s->fd, data, s->size, (off_t)at);
        if (n <= 0 || (s->writes && (size_t)n != s->size)) die(s->writes ? "write" : "read");
        atomic_fetch_add(&s->bytes, (uint64_t)n);
    }
    free(data);
    return NULL;
}

static void streams(struct stream *s, unsigned depth) {
    pthread_t threads[DEPTH_MAX];
    double began_cpu = cpu(), began = seconds();
    for (unsigned i = 0; i < depth; i++) {
        errno = pthread_create(&threads[i], NULL, stream_run, s);
        if (errno != 0) die("thread");
    }
    for (unsigned i = 0; i < depth; i++) (void)pthread_join(threads[i], NULL);
    double used = cpu() - began_cpu, took = seconds() - began, gb = (double)s->bytes / 1e9;
    printf("%s size=%zu depth=%u seconds=%.3f cpu=%.3f gb_per_s=%.3f\n", s->writes ? "writes" : "reads", s->size, depth,
           took, used / gb, gb / took);
}

static void writes(size_t size, unsigned depth, double wanted_s) {
    uint64_t file_size = 4 * SYNC_FILE / size * size;
    int fd = open("limits-writes", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0) die("open");
    uint8_t *data = pages(size);
    for (uint64_t at = 0; at < file_size; at += size) {
        if (pwrite(fd, data, size, (off_t)at) != (ssize_t)size) die("write");
    }
    free(data);
    struct stream s = {.fd = fd, .writes = true, .size = size, .file_size = file_size, .end = seconds() + wanted_s};
    streams(&s, depth);
    close(fd);
    (void)unlink("limits-writes");
}

static void reads(const char *path, size_t size, unsigned depth) {
    int fd = open(path, O_RDONLY | O_DIRECT);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) die(path);
    struct stream s = {.fd = fd, .size = size, .file_size = (uint64_t)st.st_size};
    streams(&s, depth);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 2 || chdir(argv[1]) != 0) die("usage: see the top of limits.c");
    if (argc == 6) {
        bool write = strcmp(argv[2], "write") == 0;
        size_t size = strtoul(argv[write ? 3 : 4], NULL, 10);
        unsigned long depth = strtoul(argv[write ? 4 : 5], NULL, 10);
        if (size == 0 || size % ALIGN != 0 || size > SYNC_FILE || depth == 0 || depth > DEPTH_MAX)
            die("usage: see the top of limits.c");
        if (write)
            writes(size, (unsigned)depth, strtod(argv[5], NULL));
        else
            reads(argv[3], size, (unsigned)depth);
        return 0;
    }
    memory();
    tcp();
    sync_writes();
    new_files("file", 0);
    new_files("direct", O_DIRECT);
    return 0;
}

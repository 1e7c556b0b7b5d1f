/* The write-ahead log alone, as fast as it goes: what is left of the device when src/stream/wal.c writes to it, to be
 * compared with what a program that only writes reaches (limits.c, or fio) with the same size and depth.
 *
 *   wal FOLDER GROUP_BYTES DEPTH SECONDS
 *
 * Groups of that size, one write each, twice as many submitted as may be in flight; the ring (256 MiB) is written once
 * before the clock starts, and trimmed a quarter at a time. Prints one line of name=value pairs; "cpu" is processor
 * seconds (user and system) per GB. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rt/linux/linux_env.h"
#include "stream/wal.h"

#define RING_BYTES (256ull << 20)
#define BLOCKS_MAX 256u

struct run {
    const char *path;
    size_t group_bytes;
    unsigned depth, blocks;
    uint64_t run_ns;
    struct env *env;
    struct wal *wal;
    bool over, failed;
    unsigned submitted;
    uint64_t bytes, trimmed;
    struct waitq changed;
};

static void submit(struct run *r, struct block *b) {
    b->written = false;
    b->sealed_ns = env_now_ns(r->env);
    r->submitted++;
    wal_submit(r->wal, b);
}

static void confirmed(void *ctx, struct block *b) {
    struct run *r = ctx;
    r->submitted--;
    r->bytes += b->padded;
    if (b->wal_end - r->trimmed > RING_BYTES / 4) {
        r->trimmed = b->wal_end;
        wal_trim(r->wal, b->wal_end);
    }
    if (r->over) {
        block_destroy(b);
        waitq_wake_all(&r->changed);
    } else {
        submit(r, b);
    }
}

static void failed(void *ctx, enum err why) {
    struct run *r = ctx;
    fprintf(stderr, "wal: a write failed: %s\n", err_name(why));
    r->failed = true;
    waitq_wake_all(&r->changed);
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct block *make_block(struct run *r, unsigned number) {
    struct mem *m = r->env->mem;
    size_t payload = r->group_bytes - GROUP_HEADER_SIZE - RECORD_HEADER_SIZE;
    struct commit_slab *slab = commit_slab_create(m, r->group_bytes);
    struct block *b = block_create(m, slab, number + 1, (struct incarnation){1}, 0);
    slab_unref(&slab->slab);
    uint8_t *data = mem_zalloc(m, payload);
    struct record_header h = {.payload_size = (uint32_t)payload, .type = STREAM_BATCH, .stream = {1}, .end_offset = 1};
    (void)block_append(b, &h, data, 0); /* nobody reads it back: its checksum is of no use */
    mem_free(m, data);
    block_seal(b, 0);
    return b;
}

static void measure(struct run *r) {
    for (unsigned i = 0; i < r->blocks; i++) submit(r, make_block(r, i));
    while (!r->failed && r->bytes < RING_BYTES + RING_BYTES / 8) fiber_sleep_ns(10 * NS_PER_MS);
    uint64_t began_ns = env_now_ns(r->env), bytes = r->bytes;
    double began_cpu = cpu();
    fiber_sleep_ns(r->run_ns);
    bytes = r->bytes - bytes;
    double seconds = (double)(env_now_ns(r->env) - began_ns) / 1e9, gb = (double)bytes / 1e9;
    printf("wal size=%zu depth=%u cpu=%.3f gb_per_s=%.3f\n", r->group_bytes, r->depth, (cpu() - began_cpu) / gb,
           gb / seconds);
    r->over = true;
    while (!r->failed && r->submitted > 0) waitq_wait(&r->changed);
}

static void run_main(void *arg) {
    struct run *r = arg;
    waitq_init(&r->changed);
    struct wal_options o = {.env = r->env,
                            .path = r->path,
                            .size_bytes = RING_BYTES + WAL_RING_START,
                            .depth = r->depth,
                            .confirmed = confirmed,
                            .failed = failed,
                            .ctx = r};
    const char *why = NULL;
    static const uint8_t id[16] = "of a bench";
    enum err e = wal_open(&o, &r->wal, &why);
    if (e == OK) {
        e = wal_format(r->wal, "bench", (struct incarnation){1}, id);
        if (e == OK) measure(r);
        wal_close(r->wal, false);
    }
    if (e != OK) {
        fprintf(stderr, "wal: %s: %s\n", r->path, why ? why : err_name(e));
        r->failed = true;
    }
    loop_stop(loop_current());
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: wal FOLDER GROUP_BYTES DEPTH SECONDS\n");
        return 2;
    }
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/bench.wal", argv[1]) >= (int)sizeof(path)) return 2;
    struct run r = {.path = path,
                    .group_bytes = strtoul(argv[2], NULL, 10),
                    .depth = (unsigned)strtoul(argv[3], NULL, 10),
                    .run_ns = strtoull(argv[4], NULL, 10) * NS_PER_S};
    r.blocks = 2 * r.depth;
    if (r.group_bytes < ENV_FILE_ALIGN || r.group_bytes % ENV_FILE_ALIGN != 0 || r.group_bytes > 64u << 20 ||
        r.depth == 0 || r.blocks > BLOCKS_MAX || r.run_ns == 0) {
        fprintf(stderr, "wal: the size is a multiple of 4096 up to 64 MiB, the depth 1 to 128\n");
        return 2;
    }
    const char *why;
    struct linux_env_options o = {.level = LOG_WARN};
    if (linux_env_create(&o, &r.env, &why) != OK) {
        fprintf(stderr, "wal: %s\n", why);
        return 1;
    }
    linux_env_run(r.env, run_main, &r);
    linux_env_destroy(r.env);
    (void)unlink(path);
    return r.failed ? 1 : 0;
}

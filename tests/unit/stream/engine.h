/* What the tests of the engine share: the whole of it over the simulator's store and disk without faults, with a few streams of
 * which each batch follows from its offset. */
#ifndef OXBOW_TESTS_STREAM_ENGINE_H
#define OXBOW_TESTS_STREAM_ENGINE_H

#include "unit/sim/sim_test.h"

#include "sim/disk.h"
#include "stream/stream.h"
#include "stream/wal.h"

#define STREAMS 3u

struct engine {
    struct sim_node *node;
    struct env *env;
    struct store *store;
    struct streams *streams;
    struct stream *open[STREAMS + 1]; /* by id */
    struct stream_state live[STREAMS + 1];
    struct streams_options options;
    unsigned told; /* calls of durable() */
    bool fatal;
};

/* What survives a crash: which incarnation owns the streams, with which epoch. */
struct cluster {
    uint64_t owner, incarnation;
    int32_t epoch;
};

struct test {
    struct sim_node *node;
    struct cluster cluster;
    struct sim_world *world;
};

struct test engine_test_begin(void);
void engine_on_fatal(void *ctx, enum err why, const char *what);
void engine_on_durable(void *ctx);
bool engine_is_current(void *ctx, struct stream_id id, int32_t *epoch);
/* What follows suspends, but for engine_options and engine_objects. */
void engine_options(struct engine *e);
/* Opens it, recovers what the incarnation before has left, and opens all streams. */
void engine_start(struct engine *e, struct cluster *c);
void engine_stop(struct engine *e);
/* One batch of one record whose value is `size` bytes that follow from the offset. Does not wait until it is durable. */
uint64_t engine_append_begin(struct engine *e, uint64_t id, size_t size);
void engine_append(struct engine *e, uint64_t id, size_t size);
void engine_trim(struct engine *e, uint64_t id, uint64_t to);
/* Reads from `offset` on, checks what comes, and returns where it ends. */
uint64_t engine_read_some(struct engine *e, uint64_t id, uint64_t offset, size_t max_bytes);
/* Reads [from, durable end) and checks every batch. */
void engine_read_all(struct engine *e, uint64_t id, uint64_t from);
/* How many objects there are whose keys begin so. */
size_t engine_objects(struct engine *e, const char *prefix);

#endif

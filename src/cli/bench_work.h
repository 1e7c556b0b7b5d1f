/* What the load consists of: when a record is due, which key it has, which bytes. Pure functions of a seed: the same
 * settings give the same load. */
#ifndef OXBOW_CLI_BENCH_WORK_H
#define OXBOW_CLI_BENCH_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/random.h"

/* --- When: a fixed timetable. Record n of all is due n * unit / rate seconds after the beginning, whatever became of
 * those before it; of `parties` producers, number `index` sends records index, index + parties, ... */
struct schedule {
    uint64_t start_ns;
    uint64_t rate; /* units a second; 0: no timetable */
    uint64_t unit; /* units of one record: 1, or its bytes */
    uint64_t index, parties;
};
/* When this producer's record k (from 0) is due; start_ns without a rate. */
uint64_t schedule_due_ns(const struct schedule *s, uint64_t k);

/* --- Which key. */
enum key_kind { KEY_NONE, KEY_UNIFORM, KEY_ZIPF };
#define KEY_SIZE ((size_t)8)
#define KEY_ZIPF_MAX 10000000u
struct keys {
    enum key_kind kind;
    uint64_t count;
    double *sums; /* zipf: sums[i] is how likely one of the keys 0 to i is, times the last; owned */
};
/* zipf: key k is 1 / (k + 1) as likely as key 0. Reads only after this: all threads may draw. */
void keys_init(struct keys *k, struct mem *m, enum key_kind kind, uint64_t count);
void keys_deinit(struct keys *k, struct mem *m);
uint64_t keys_draw(const struct keys *k, struct rng *rng);
/* Its bytes: eight hexadecimal digits. */
void key_text(uint64_t key, uint8_t out[KEY_SIZE]);

/* --- Which bytes: a pool of random ones that is walked through, so that within PAYLOAD_POOL_BYTES nothing repeats; the
 * next lap begins elsewhere. */
#define PAYLOAD_POOL_BYTES ((size_t)8 << 20)
struct payload {
    uint8_t *pool; /* owned; PAYLOAD_POOL_BYTES + size_max */
    size_t size_max;
    bool repeat; /* always the same bytes */
};
/* Of every 64 bytes, `compressibility` percent (0 to 100) are the same one byte, the rest is random. */
void payload_init(struct payload *p, struct mem *m, uint64_t seed, unsigned compressibility, size_t size_max,
                  bool repeat);
void payload_deinit(struct payload *p, struct mem *m);
/* `size` bytes from a walker's place, which moves on; borrowed from the pool. */
struct payload_walk {
    size_t at;
    uint64_t lap;
};
const uint8_t *payload_next(const struct payload *p, struct payload_walk *w, size_t size);

#endif

#include "sim/log_head.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/map.h"

struct slice log_head_make(struct mem *m, const struct log_head *h, size_t filler) {
    struct slab *slab = slab_create(m, LOG_HEAD_SIZE + filler, 16);
    le64_put(slab->data, h->id);
    le64_put(slab->data + 8, h->before.count);
    le64_put(slab->data + 16, h->before.chain);
    le64_put(slab->data + 24, h->before.writer);
    sim_payload_fill(h->id ^ 1, slab->data + LOG_HEAD_SIZE, filler);
    return (struct slice){slab->data, LOG_HEAD_SIZE + filler, slab};
}

bool log_head_read(const struct slice *s, struct log_head *out) {
    *out = (struct log_head){0};
    if (s->size < LOG_HEAD_SIZE) return false;
    *out =
        (struct log_head){le64_get(s->data), {le64_get(s->data + 8), le64_get(s->data + 16), le64_get(s->data + 24)}};
    return sim_payload_is(out->id ^ 1, s->data + LOG_HEAD_SIZE, s->size - LOG_HEAD_SIZE);
}

void log_state_add(struct log_state *s, uint64_t id) {
    s->count++;
    s->chain = hash64(s->chain ^ id) + 1;
}

bool log_again(enum err e) {
    if (e == OK || err_class(e) == ERR_CLASS_FATAL) return false;
    fiber_sleep_ns(200 * NS_PER_MS);
    return true;
}

/* One read from header to body, so that both are of one object. */
enum err log_body_check(struct store *s, const char *prefix, const struct objlog_header *h, uint64_t id) {
    if (h->body_size == 0) return OK;
    char key[128];
    objlog_key(key, sizeof(key), prefix, h->number);
    struct slice all;
    struct objlog_header there;
    enum err e;
    do {
        e = store_get(s, key, 0, (size_t)(OBJLOG_HEADER_SIZE + h->head_size + h->body_size), STORE_FOR_READ, &all);
    } while (log_again(e));
    if (e == ERR_NOT_FOUND) return ERR_STALE;
    if (e == OK) e = objlog_header_decode(all.data, all.size, &there);
    if (e == OK && memcmp(&there.nonce, &h->nonce, sizeof(h->nonce)) != 0) e = ERR_STALE;
    if (e == OK) {
        struct slice body = slice_sub(all, OBJLOG_HEADER_SIZE + (size_t)h->head_size,
                                      all.size - OBJLOG_HEADER_SIZE - (size_t)h->head_size);
        bool same = body.size == h->body_size && crc32c(0, body.data, body.size) == h->body_crc &&
                    sim_payload_is(id, body.data, body.size);
        if (!same) sim_fail(sim_node_of(s->env)->world, "the body of entry %lu is not what was written", h->number);
        slice_unref(&body);
    }
    slice_unref(&all);
    return e;
}

void log_shuffle(struct sim_world *w, uint64_t *numbers, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t j = sim_between(w, 0, i - 1);
        uint64_t n = numbers[i - 1];
        numbers[i - 1] = numbers[j];
        numbers[j] = n;
    }
}

/* The plan of a compose. Two steps: neighbours become runs (bytes in memory that follow each other, and ranges of one
 * object that do); then each run becomes pieces, of equal size where it is too large for one. So a part is too small
 * only where there was nothing to put it together with, and pieces of one run are never smaller than they must be. */
#include "store/store_plan.h"

#include <string.h>

#include "base/assert.h"

static uint64_t part_size(const struct store_part *p) {
    return p->key ? p->size : p->data.size;
}

static bool follows(const struct store_piece *run, const struct store_part *p) {
    if (!run->key || !p->key) return !run->key && !p->key;
    return strcmp(run->key, p->key) == 0 && run->position + run->size == p->position;
}

/* Makes the runs; each has all slices of its own. */
static enum err runs_make(struct store_plan *out, const struct store_part *parts, size_t count,
                          struct store_piece *runs, size_t *run_count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const struct store_part *p = &parts[i];
        uint64_t size = part_size(p);
        if (p->key && (!store_key_valid(p->key) || p->position > UINT64_MAX - size)) return ERR_INVALID;
        if (size > STORE_OBJECT_MAX - total) return ERR_TOO_LARGE;
        total += size;
        *(p->key ? &out->copied_bytes : &out->memory_bytes) += size;
        if (size == 0) continue;
        struct store_piece *last = *run_count > 0 ? &runs[*run_count - 1] : NULL;
        if (!last || !follows(last, p)) {
            last = &runs[(*run_count)++];
            *last =
                (struct store_piece){.key = p->key, .position = p->position, .data = out->slices + out->slice_count};
        }
        last->size += size;
        if (!p->key) {
            out->slices[out->slice_count++] = p->data;
            last->count++;
        }
    }
    return OK;
}

/* The bytes [from, to) of a run in memory as a piece; its slices come to `at`. */
static struct store_piece piece_cut(const struct store_piece *run, uint64_t from, uint64_t to, struct slice *at) {
    struct store_piece out = {.size = to - from, .data = at};
    uint64_t before = 0;
    for (size_t i = 0; i < run->count && before < to; i++) {
        const struct slice *s = &run->data[i];
        uint64_t first = before > from ? before : from, end = before + s->size < to ? before + s->size : to;
        if (first < end) at[out.count++] = slice_borrow(s->data + (first - before), (size_t)(end - first));
        before += s->size;
    }
    return out;
}

static uint64_t pieces_of(const struct store *s, const struct store_piece *run) {
    if (run->key) return (run->size + STORE_COPY_MAX - 1) / STORE_COPY_MAX;
    uint64_t part_bytes = s->part_bytes ? s->part_bytes : STORE_PART_BYTES;
    return run->size < part_bytes ? 1 : run->size / part_bytes;
}

/* The pieces of all runs. Each cut of a run in memory adds one slice at most. */
static void pieces_make(const struct store *s, const struct store_piece *runs, size_t run_count, uint64_t pieces,
                        struct store_plan *out) {
    struct slice *whole = out->slices, *at = mem_alloc(out->mem, (out->slice_count + (size_t)pieces) * sizeof(*at));
    out->slices = at;
    out->pieces = mem_alloc(out->mem, (size_t)pieces * sizeof(*out->pieces));
    for (size_t i = 0; i < run_count; i++) {
        const struct store_piece *run = &runs[i];
        uint64_t n = pieces_of(s, run);
        for (uint64_t k = 0, from = 0, to; k < n; k++, from = to) {
            to = from + (run->size - from) / (n - k);
            struct store_piece *p = &out->pieces[out->piece_count++];
            *p = (struct store_piece){.key = run->key, .position = run->position + from, .size = to - from};
            if (!run->key) *p = piece_cut(run, from, to, at);
            at += p->count;
        }
    }
    out->slice_count = (size_t)(at - out->slices);
    mem_free(out->mem, whole);
    ASSERT(out->piece_count == pieces);
}

enum err store_plan_make(const struct store *s, const struct store_part *parts, size_t count, struct store_plan *out) {
    struct mem *m = s->env->mem;
    *out = (struct store_plan){.mem = m};
    struct store_piece *runs = mem_alloc(m, (count + 1) * sizeof(*runs));
    size_t run_count = 0;
    out->slices = mem_alloc(m, (count + 1) * sizeof(*out->slices));
    enum err e = runs_make(out, parts, count, runs, &run_count);
    uint64_t pieces = 0;
    for (size_t i = 0; i < run_count && e == OK; i++) {
        if (runs[i].size < s->part_least && i + 1 < run_count) e = ERR_UNSUPPORTED;
        pieces += pieces_of(s, &runs[i]);
    }
    if (e == OK && out->copied_bytes > 0) {
        if (pieces > STORE_PARTS_MAX) {
            e = ERR_UNSUPPORTED;
        } else {
            pieces_make(s, runs, run_count, pieces, out);
        }
    }
    mem_free(m, runs);
    if (e != OK) store_plan_deinit(out);
    return e;
}

void store_plan_of_bytes(struct mem *m, const struct slice *data, size_t count, uint64_t piece_bytes,
                         struct store_plan *out) {
    struct store_piece run = {.data = data, .count = count};
    for (size_t i = 0; i < count; i++) run.size += data[i].size;
    size_t n = (size_t)((run.size + piece_bytes - 1) / piece_bytes);
    struct slice *at = mem_alloc(m, (count + n + 1) * sizeof(*at));
    *out = (struct store_plan){.mem = m, .slices = at, .memory_bytes = run.size};
    out->pieces = mem_alloc(m, (n + 1) * sizeof(*out->pieces));
    for (uint64_t from = 0; from < run.size; from += piece_bytes) {
        uint64_t to = run.size - from < piece_bytes ? run.size : from + piece_bytes;
        struct store_piece *p = &out->pieces[out->piece_count++];
        *p = piece_cut(&run, from, to, at);
        at += p->count;
    }
    out->slice_count = (size_t)(at - out->slices);
}

void store_plan_deinit(struct store_plan *p) {
    mem_free(p->mem, p->pieces);
    mem_free(p->mem, p->slices);
    p->pieces = NULL;
    p->slices = NULL;
}

#include "sim/check_format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/state.h"

#define NUMBER_DIGITS 20u
#define INDEX_ENTRY 40u
#define SECTOR SIM_SECTOR
#define RING_START (4u * SECTOR)

void stored_bad(struct stored_report *r, const char *format, ...) {
    if (stored_failed(r)) return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->text, sizeof(r->text), format, args);
    va_end(args);
}

/* --- Object logs. */

static bool number_parse(const char *key, size_t prefix_size, uint64_t *number) {
    const char *digits = key + prefix_size;
    if (strlen(digits) != NUMBER_DIGITS) return false;
    *number = 0;
    for (size_t i = 0; i < NUMBER_DIGITS; i++) {
        if (digits[i] < '0' || digits[i] > '9') return false;
        *number = *number * 10 + (uint64_t)(digits[i] - '0');
    }
    return true;
}

bool stored_entry_read(struct stored_report *r, struct sim_object *o, uint64_t number, struct stored_entry *e) {
    struct objlog_header *h = &e->header;
    enum err err = OK;
    if (o->seen.entry)
        *h = o->seen.header;
    else
        err = objlog_header_decode(o->data, o->size, h);
    if (err != OK) {
        stored_bad(r, "%s: its header does not verify: %s", o->key, err_name(err));
    } else if (h->number != number) {
        stored_bad(r, "%s: its header says that it is entry %" PRIu64, o->key, h->number);
    } else if (o->size != OBJLOG_HEADER_SIZE + h->head_size + h->body_size) {
        stored_bad(r, "%s: it has %zu bytes; its header counts %" PRIu64, o->key, o->size,
                   (uint64_t)OBJLOG_HEADER_SIZE + h->head_size + h->body_size);
    } else {
        e->object = o;
        e->head = o->data + OBJLOG_HEADER_SIZE;
        e->body = e->head + h->head_size;
        if (o->seen.entry) return !stored_failed(r);
        if (crc32c(0, e->head, h->head_size) != h->head_crc)
            stored_bad(r, "%s: the checksum of its head is wrong", o->key);
        else if (crc32c(0, e->body, h->body_size) != h->body_crc)
            stored_bad(r, "%s: the checksum of its body is wrong", o->key);
        if (stored_failed(r)) return false;
        o->seen.entry = true;
        o->seen.header = *h;
    }
    return !stored_failed(r);
}

static bool nonce_equal(const struct objlog_nonce *a, const struct objlog_nonce *b) {
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Where the log ends, and whether its entries follow each other. */
static void log_walk(struct stored_report *r, const char *prefix, struct stored_log *l) {
    static const struct objlog_nonce zero;
    l->first = 0;
    while (l->first < l->count && l->entries[l->first].header.number < l->boundary) l->first++;
    l->behind = l->first;
    l->end = l->boundary;
    for (size_t i = l->first; i < l->count; i++) {
        const struct objlog_header *h = &l->entries[i].header;
        if (h->number != l->end) break;
        const struct objlog_header *before = i > l->first ? &l->entries[i - 1].header : NULL;
        bool ahead = h->kind == OBJLOG_FENCE && nonce_equal(&h->previous, &zero);
        if (before && !ahead && !nonce_equal(&h->previous, &before->nonce)) {
            stored_bad(r, "%s: entry %" PRIu64 " names another predecessor than entry %" PRIu64, prefix, h->number,
                       before->number);
            return;
        }
        if (h->kind == OBJLOG_FENCE) {
            l->fenced = true;
            break;
        }
        l->end++;
        l->behind = i + 1;
    }
    const struct objlog_header *begin = l->first < l->count ? &l->entries[l->first].header : NULL;
    if (l->boundary == 0) return;
    if (!begin || begin->number != l->boundary)
        stored_bad(r, "%s: the log begins at entry %" PRIu64 ", which is missing", prefix, l->boundary);
    else if (begin->kind != OBJLOG_CHECKPOINT)
        stored_bad(r, "%s: the log begins at entry %" PRIu64 ", which is no checkpoint", prefix, l->boundary);
}

bool stored_log_read(struct stored_report *r, struct mem *m, const struct sim_bucket *b, const char *prefix,
                     unsigned depth, struct stored_log *out) {
    *out = (struct stored_log){0};
    size_t capacity = 0, prefix_size = strlen(prefix) + 1;
    char with_slash[600];
    (void)snprintf(with_slash, sizeof(with_slash), "%s/", prefix);
    for (size_t i = sim_bucket_from(b, with_slash); i < b->count && !stored_failed(r); i++) {
        struct sim_object *o = b->objects[i];
        uint64_t number;
        if (strncmp(o->key, with_slash, prefix_size) != 0) break;
        if (!number_parse(o->key, prefix_size, &number)) {
            stored_bad(r, "%s: no entry has such a name", o->key);
            break;
        }
        out->entries = mem_grow(m, out->entries, out->count, &capacity, sizeof(*out->entries));
        struct stored_entry *e = &out->entries[out->count];
        *e = (struct stored_entry){.index = i};
        if (!stored_entry_read(r, o, number, e)) break;
        out->count++;
        if (e->header.boundary > out->boundary) out->boundary = e->header.boundary;
    }
    if (!stored_failed(r)) log_walk(r, prefix, out);
    for (size_t i = out->behind; i < out->count && !stored_failed(r); i++) {
        const struct objlog_header *h = &out->entries[i].header;
        bool possible =
            h->kind == OBJLOG_FENCE ? h->number <= out->end + OBJLOG_DEPTH_MAX : h->number < out->end + depth;
        if (!possible)
            stored_bad(r, "%s: the log ends at %" PRIu64 ", and entry %" PRIu64 " lies further than anything can be",
                       prefix, out->end, h->number);
    }
    return !stored_failed(r);
}

void stored_log_deinit(struct stored_log *l, struct mem *m) {
    mem_free(m, l->entries);
    *l = (struct stored_log){0};
}

/* --- Pieces. */

struct block_entry {
    uint64_t first_offset, end_offset, position;
    int64_t max_timestamp;
    uint32_t size, crc;
};

static struct block_entry block_entry_read(const uint8_t *e) {
    return (struct block_entry){.first_offset = le64_get(e),
                                .end_offset = le64_get(e + 8),
                                .max_timestamp = (int64_t)le64_get(e + 16),
                                .position = le64_get(e + 24),
                                .size = le32_get(e + 32),
                                .crc = le32_get(e + 36)};
}

static bool check_block(struct stored_report *r, const char *key, const uint8_t *data, const struct block_entry *b) {
    if (crc32c(0, data, b->size) != b->crc) {
        stored_bad(r, "%s: the checksum of the block of offsets %" PRIu64 "..%" PRIu64 " is wrong", key,
                   b->first_offset, b->end_offset);
        return false;
    }
    uint64_t offset = b->first_offset;
    int64_t newest = INT64_MIN;
    for (size_t at = 0; at < b->size;) {
        struct batch_header h;
        enum err e = batch_parse(data + at, b->size - at, &h);
        if (e != OK) {
            stored_bad(r, "%s: the batch at offset %" PRIu64 " does not verify: %s", key, offset, err_name(e));
            return false;
        }
        if ((uint64_t)h.base_offset < offset) { /* above it: log compaction has removed what lay between */
            stored_bad(r, "%s: offset %" PRIu64 " is followed by a batch at %" PRId64, key, offset, h.base_offset);
            return false;
        }
        if (h.max_timestamp > newest) newest = h.max_timestamp;
        offset = (uint64_t)batch_end_offset(&h);
        at += h.size;
    }
    if (offset != b->end_offset)
        stored_bad(r, "%s: a block ends at offset %" PRIu64 "; its index says %" PRIu64, key, offset, b->end_offset);
    else if (newest != b->max_timestamp)
        stored_bad(r, "%s: the newest timestamp of the block of offsets %" PRIu64 "..%" PRIu64 " is not its index's",
                   key, b->first_offset, b->end_offset);
    return !stored_failed(r);
}

bool stored_piece(struct stored_report *r, const char *key, const uint8_t *data, size_t size,
                  const struct state_range *g) {
    uint64_t index_size = (uint64_t)g->block_count * INDEX_ENTRY + 8;
    if (g->position > size || g->size_bytes > size - g->position || g->block_count == 0 || index_size > g->size_bytes) {
        stored_bad(r,
                   "%s: a range of %" PRIu64 " bytes with %u blocks at %" PRIu64 " does not fit into the object's %zu",
                   key, g->size_bytes, g->block_count, g->position, size);
        return false;
    }
    const uint8_t *piece = data + g->position;
    if (crc32c(0, piece, index_size - 8) != le32_get(piece + index_size - 8)) {
        stored_bad(r, "%s: the checksum of the block index at %" PRIu64 " is wrong", key, g->position);
        return false;
    }
    uint64_t offset = g->first_offset, position = index_size;
    int64_t newest = INT64_MIN;
    for (uint32_t i = 0; i < g->block_count; i++) {
        struct block_entry b = block_entry_read(piece + (size_t)i * INDEX_ENTRY);
        if (b.first_offset != offset || b.end_offset <= offset || b.position != position ||
            b.size > g->size_bytes - position) {
            stored_bad(r,
                       "%s: block %u of the piece at %" PRIu64 " holds offsets %" PRIu64 "..%" PRIu64 "; %" PRIu64
                       " is next",
                       key, i, g->position, b.first_offset, b.end_offset, offset);
            return false;
        }
        if (!check_block(r, key, piece + position, &b)) return false;
        if (b.max_timestamp > newest) newest = b.max_timestamp;
        offset = b.end_offset;
        position += b.size;
    }
    if (offset != g->end_offset || position != g->size_bytes)
        stored_bad(r, "%s: the piece at %" PRIu64 " ends at offset %" PRIu64 "; its range says %" PRIu64, key,
                   g->position, offset, g->end_offset);
    else if (newest != g->max_timestamp)
        stored_bad(r, "%s: the newest timestamp of the piece at %" PRIu64 " is not its range's", key, g->position);
    return !stored_failed(r);
}

/* --- The WAL. */

struct ring {
    const struct sim_file *file;
    const struct wal_superblock *superblock;
    uint8_t *group; /* owned */
    size_t capacity;
};

/* Bytes of the ring at a logical position, not over the end of the lap; NULL: there are not so many. */
static const uint8_t *ring_bytes(struct ring *g, struct mem *m, uint64_t position, size_t size) {
    uint64_t in_lap = position % g->superblock->ring_size;
    if (size > g->superblock->ring_size - in_lap) return NULL;
    if (size > g->capacity) {
        mem_free(m, g->group);
        g->group = mem_alloc(m, size);
        g->capacity = size;
    }
    return sim_file_peek(g->file, RING_START + in_lap, g->group, size) == size ? g->group : NULL;
}

static void superblocks_read(struct stored_report *r, const struct sim_file *file, struct stored_wal *out) {
    struct wal_superblock s[2];
    enum err e[2];
    static const uint8_t zero[WAL_SUPERBLOCK_SIZE];
    bool blank = false; /* slot 0, into which the second one goes */
    for (unsigned i = 0; i < 2; i++) {
        uint8_t bytes[WAL_SUPERBLOCK_SIZE] = {0};
        size_t got = sim_file_peek(file, (uint64_t)i * SECTOR, bytes, sizeof(bytes));
        e[i] = wal_superblock_decode(bytes, got, &s[i]);
        if (i == 0) blank = memcmp(bytes, zero, sizeof(zero)) == 0;
    }
    if (e[0] != OK && e[1] != OK) {
        /* The very first one, in slot 1, may be torn or not there; then nothing was ever confirmed: that is for the
         * caller to know. */
        if (!blank) stored_bad(r, "neither superblock of the WAL verifies: %s, %s", err_name(e[0]), err_name(e[1]));
        return;
    }
    unsigned newest = e[0] != OK || (e[1] == OK && s[1].sequence > s[0].sequence);
    out->formatted = true;
    out->superblock = s[newest];
    const struct wal_superblock *old = &s[1 - newest];
    out->both = e[1 - newest] == OK && old->sequence + 1 == s[newest].sequence &&
                memcmp(old->wal_id, s[newest].wal_id, sizeof(old->wal_id)) == 0;
    if (out->both && old->trim_position > s[newest].trim_position)
        stored_bad(r, "the newer superblock's trim position, %" PRIu64 ", is below the older one's, %" PRIu64,
                   s[newest].trim_position, old->trim_position);
}

/* How many records of the group verify. */
static uint32_t group_read(const struct group_header *g, const uint8_t *data,
                           void (*record)(void *, const struct record_header *, const uint8_t *), void *ctx) {
    size_t at = GROUP_HEADER_SIZE;
    uint32_t n = 0;
    for (; n < g->record_count && at < g->size; n++) {
        struct record_header h;
        const uint8_t *payload;
        if (record_decode(data + at, g->size - at, g->incarnation, g->block_id, &h, &payload) != OK) break;
        if (record) record(ctx, &h, payload);
        at += record_size(h.payload_size);
    }
    return n;
}

/* position: of a sector. */
static bool group_at(const struct ring *g, uint64_t position, struct group_header *h) {
    uint8_t data[GROUP_HEADER_SIZE];
    uint64_t in_lap = position % g->superblock->ring_size;
    if (g->superblock->ring_size - in_lap < SECTOR) return false;
    size_t got = sim_file_peek(g->file, RING_START + in_lap, data, sizeof(data));
    return group_decode(data, got, h) == OK && h->incarnation.v == g->superblock->incarnation.v &&
           h->position == position;
}

bool stored_wal_read(struct stored_report *r, struct mem *m, const struct sim_file *file,
                     void (*record)(void *ctx, const struct record_header *h, const uint8_t *payload), void *ctx,
                     struct stored_wal *out) {
    *out = (struct stored_wal){0};
    if (!file || sim_file_peek_size(file) < 2 * SECTOR) return true;
    superblocks_read(r, file, out);
    if (!out->formatted || stored_failed(r)) return !stored_failed(r);
    uint8_t mark[64] = {0};
    (void)sim_file_peek(file, 2 * SECTOR, mark, sizeof(mark));
    for (size_t i = 0; i < sizeof(mark); i++) out->marked |= mark[i] != 0;
    struct ring g = {.file = file, .superblock = &out->superblock};
    if (sim_file_peek_size(file) < RING_START + out->superblock.ring_size)
        stored_bad(r, "the WAL is shorter than its superblock says");
    uint64_t position = out->superblock.trim_position, limit = position + out->superblock.ring_size;
    struct group_header h;
    while (!stored_failed(r) && position < limit && group_at(&g, position, &h)) {
        if (h.kind == GROUP_PAD) {
            position += h.size;
            continue;
        }
        const uint8_t *data = ring_bytes(&g, m, position, h.size);
        uint32_t whole = data ? group_read(&h, data, record, ctx) : 0;
        out->records += whole;
        if (whole < h.record_count) break; /* torn: none of its records was acknowledged, unless one behind says so */
        out->groups++;
        position += (h.size + SECTOR - 1) / SECTOR * SECTOR;
    }
    out->end = position;
    for (uint64_t at = position + SECTOR; at < limit && !stored_failed(r); at += SECTOR) {
        if (group_at(&g, at, &h) && h.confirmed_position > position)
            stored_bad(
                r, "the WAL ends at %" PRIu64 ", and the group at %" PRIu64 " says that it was confirmed to %" PRIu64,
                position, at, h.confirmed_position);
    }
    mem_free(m, g.group);
    return !stored_failed(r);
}

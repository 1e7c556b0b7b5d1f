#include "cli/inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "cli/commands.h"
#include "cli/storage.h"
#include "kafka/batch.h"
#include "meta/meta_image.h"
#include "rt/linux/linux_env.h"

#define READ_SIZE ((size_t)4 << 20)

/* --- The place to look from. */

static void inspect_main(void *arg) {
    struct inspect *x = arg;
    x->run(x, x->arg);
    if (x->store) store_close(x->store);
    loop_stop(loop_current());
}

int inspect_in_env(struct inspect *x, const char *command, void (*run)(struct inspect *x, void *arg), void *arg) {
    x->command = command;
    x->run = run;
    x->arg = arg;
    struct linux_env_options o = {.io = LINUX_IO_AUTO, .level = LOG_ERROR, .worker_threads = 1};
    const char *why = NULL;
    enum err e = linux_env_create(&o, &x->env, &why);
    if (e != OK) {
        fprintf(stderr, "oxbow %s: %s (%s)\n", command, why ? why : "the environment cannot be made", err_text(e));
        return EXIT_FAILED;
    }
    linux_env_run(x->env, inspect_main, x);
    linux_env_destroy(x->env);
    return x->status == EXIT_DONE && x->bad > 0 ? EXIT_FAILED : x->status;
}

void inspect_fails(struct inspect *x, const char *subject, const char *why, enum err e) {
    fprintf(stderr, "oxbow %s: %s: %s (%s)\n", x->command, subject, why && *why ? why : err_text(e), err_name(e));
    x->status = EXIT_FAILED;
}

void inspect_bad(struct inspect *x, const char *key, uint64_t position, enum err e, const char *format, ...) {
    x->bad++;
    printf("BAD object=%s position=%" PRIu64 " error=%s: ", key, position, err_name(e));
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

bool inspect_open_store(struct inspect *x, const char *where) {
    char why[1024] = "";
    enum err e = storage_open(x->env, where, true, &x->store, why, sizeof(why));
    if (e != OK) {
        inspect_fails(x, where, why, e);
        return false;
    }
    struct slice s = {0};
    struct uuid id;
    e = store_get(x->store, META_CLUSTER_KEY, 0, 4096, STORE_FOR_OTHER, &s);
    if (e == OK) e = meta_cluster_decode(s.data, s.size, x->generation, &id);
    slice_unref(&s);
    if (e == OK) return true;
    if (e == ERR_NOT_FOUND) {
        inspect_fails(x, where, "the store holds no cluster yet: there is no object " META_CLUSTER_KEY, e);
    } else {
        inspect_bad(x, META_CLUSTER_KEY, 0, e, "%s", err_text(e));
    }
    return false;
}

/* --- Pieces. */

/* The bytes of a block: batches, each with its own checksum, offsets rising: log compaction leaves gaps. */
static void verify_block(struct inspect *x, const char *key, uint64_t position, const uint8_t *data,
                         const struct object_block *b) {
    x->blocks++;
    if (crc32c(0, data, b->size) != b->crc) {
        inspect_bad(x, key, position, ERR_CORRUPT, "block of offsets %" PRIu64 "..%" PRIu64 ": checksum does not match",
                    b->first_offset, b->end_offset);
        return;
    }
    uint64_t offset = b->first_offset;
    size_t at = 0;
    while (at < b->size) {
        struct batch_header h;
        enum err e = batch_parse(data + at, b->size - at, &h);
        if (e == OK && (uint64_t)h.base_offset < offset) e = ERR_GAP;
        if (e != OK) {
            inspect_bad(x, key, position + at, e, "batch at offset %" PRIu64 ": %s", offset, err_text(e));
            return;
        }
        x->batches++;
        offset = (uint64_t)batch_end_offset(&h);
        at += h.size;
    }
    if (offset != b->end_offset) {
        inspect_bad(x, key, position, ERR_GAP, "block ends at offset %" PRIu64 ", its index says %" PRIu64, offset,
                    b->end_offset);
    } else if (x->verbose) {
        printf("    block position=%" PRIu64 " size=%u offsets=%" PRIu64 "..%" PRIu64 " max_timestamp=%" PRId64 "\n",
               position, b->size, b->first_offset, b->end_offset, b->max_timestamp);
    }
}

/* A piece of an object whose bytes from `position` on are in data. block_count 0: the first block's place tells how
 * long the index is. */
static void verify_piece(struct inspect *x, const char *key, uint64_t position, struct slice data, uint32_t block_count,
                         uint64_t *first, uint64_t *end) {
    *first = *end = 0;
    if (block_count == 0) {
        uint64_t index_size = data.size >= OBJECT_BLOCK_ENTRY ? le64_get(data.data + 24) : 0;
        if (index_size < object_index_size(1) || index_size > data.size || (index_size - 8) % OBJECT_BLOCK_ENTRY != 0) {
            inspect_bad(x, key, position, ERR_CORRUPT, "block index: its size makes no sense");
            return;
        }
        block_count = (uint32_t)((index_size - 8) / OBJECT_BLOCK_ENTRY);
    }
    if (block_count > data.size / OBJECT_BLOCK_ENTRY) {
        inspect_bad(x, key, position, ERR_TRUNCATED, "block index: %u blocks do not fit in %zu bytes", block_count,
                    data.size);
        return;
    }
    struct object_block *blocks = mem_alloc(x->env->mem, block_count * sizeof(*blocks));
    enum err e = object_index_decode(data.data, data.size, block_count, data.size, blocks);
    if (e != OK) {
        inspect_bad(x, key, position, e, "block index: %s", err_text(e));
    } else {
        *first = blocks[0].first_offset;
        *end = blocks[block_count - 1].end_offset;
        for (uint32_t i = 0; i < block_count; i++)
            verify_block(x, key, position + blocks[i].position, data.data + blocks[i].position, &blocks[i]);
    }
    mem_free(x->env->mem, blocks);
}

/* Reads [position, position + size) whole. */
static enum err read_part(struct inspect *x, const char *key, uint64_t position, uint64_t size, struct slice *out) {
    if (size > SIZE_MAX / 2) return ERR_CORRUPT;
    enum err e = store_get(x->store, key, position, (size_t)size, STORE_FOR_OTHER, out);
    if (e == OK && out->size != size) {
        slice_unref(out);
        e = ERR_TRUNCATED;
    }
    return e;
}

/* A piece tells its own size: its blocks follow its index without gaps. */
static enum err piece_size(struct inspect *x, const char *key, uint64_t position, uint64_t left, uint64_t *out) {
    struct slice index = {0};
    if (left < object_index_size(1)) return ERR_TRUNCATED;
    enum err e = read_part(x, key, position, OBJECT_BLOCK_ENTRY, &index);
    if (e != OK) return e;
    uint64_t size = le64_get(index.data + 24);
    slice_unref(&index);
    if (size < object_index_size(1) || size > left || (size - 8) % OBJECT_BLOCK_ENTRY != 0) return ERR_CORRUPT;
    e = read_part(x, key, position, size, &index);
    if (e != OK) return e;
    const uint8_t *last = index.data + size - 8 - OBJECT_BLOCK_ENTRY;
    uint64_t at = le64_get(last + 24), bytes = le32_get(last + 32);
    slice_unref(&index);
    if (at < size || at > left || bytes > left - at) return ERR_CORRUPT;
    *out = at + bytes;
    return OK;
}

static void verify_data_object(struct inspect *x, const char *key, struct object_id id, bool listed) {
    struct slice front = {0}, rest = {0};
    enum err e = store_get(x->store, key, 0, OBJECT_DATA_HEADER, STORE_FOR_OTHER, &front);
    if (e == ERR_NOT_FOUND && listed) return;
    x->objects++;
    struct object_id named = {{0}, 0, OBJECT_DATA};
    struct stream_id stream = {0};
    uint64_t size = 0, first = 0, end = 0;
    if (e == OK) e = object_data_header_decode(front.data, front.size, &named, &stream, &size);
    slice_unref(&front);
    if (e == OK && !object_id_equal(named, id)) e = ERR_CORRUPT;
    if (e != OK) {
        inspect_bad(x, key, 0, e, "header of the data object: %s", err_text(e));
        return;
    }
    uint64_t position = OBJECT_DATA_HEADER, pieces = 0;
    while (e == OK && position < OBJECT_DATA_HEADER + size) {
        uint64_t piece = 0, left = OBJECT_DATA_HEADER + size - position;
        e = piece_size(x, key, position, left, &piece);
        if (e == OK) e = read_part(x, key, position, piece, &rest);
        if (e != OK) break;
        uint64_t from, to;
        verify_piece(x, key, position, rest, 0, &from, &to);
        if (pieces++ == 0) first = from;
        end = to;
        slice_unref(&rest);
        position += piece;
    }
    if (e != OK) {
        inspect_bad(x, key, position, e, "a piece cannot be read: %s", err_text(e));
        return;
    }
    printf("%s kind=data creator=%" PRIu64 " number=%" PRIu64, key, id.creator.v, id.number);
    if (stream.v != 0) {
        printf(" stream=%" PRIu64 " size=%" PRIu64 " offsets=%" PRIu64 "..%" PRIu64 "\n", stream.v, size, first, end);
    } else {
        printf(" size=%" PRIu64 " pieces=%" PRIu64 "\n", size, pieces);
    }
}

/* --- Entries of object logs. */

const char *inspect_kind_name(enum objlog_kind k) {
    static const char *const names[] = {[OBJLOG_DATA] = "data",
                                        [OBJLOG_CHECKPOINT] = "checkpoint",
                                        [OBJLOG_FENCE] = "fence",
                                        [OBJLOG_ELECTION] = "election"};
    return (size_t)k < ARRAY_LEN(names) && names[k] ? names[k] : "?";
}

static void verify_body(struct inspect *x, const char *key, const struct objlog_header *h) {
    uint64_t position = OBJLOG_HEADER_SIZE + h->head_size, left = h->body_size;
    uint32_t crc = 0;
    while (left > 0) {
        struct slice part = {0};
        uint64_t size = left < READ_SIZE ? left : READ_SIZE;
        enum err e = read_part(x, key, position, size, &part);
        if (e != OK) {
            inspect_bad(x, key, position, e, "body cannot be read: %s", err_text(e));
            return;
        }
        crc = crc32c(crc, part.data, part.size);
        slice_unref(&part);
        position += size;
        left -= size;
    }
    if (crc != h->body_crc)
        inspect_bad(x, key, OBJLOG_HEADER_SIZE + h->head_size, ERR_CORRUPT,
                    "body of %" PRIu64 " bytes: checksum does not match", h->body_size);
}

static const char *section_kind_name(enum object_section_kind k) {
    return k == OBJECT_APPENDED ? "appended" : k == OBJECT_REPLACED ? "replaced" : "cleaned";
}

static void section_print(const struct object_section *s, const struct stream_state *d) {
    printf("    section stream=%" PRIu64 " epoch=%d kind=%s offsets=%" PRIu64 "..%" PRIu64 " start=%" PRIu64
           " segments=%u epochs=%u producers=%zu ranges=%u\n",
           s->stream.v, s->epoch, section_kind_name(s->kind), d->first_offset, d->end_offset, d->start_offset,
           d->segment_count, d->epoch_count, d->producers.count, d->range_count);
    for (uint32_t i = 0; i < d->range_count; i++) {
        const struct state_range *r = &d->ranges[i];
        char number[24] = "this entry";
        if (r->object.number != OBJECT_THIS_ENTRY) (void)snprintf(number, sizeof(number), "%" PRIu64, r->object.number);
        printf("      range offsets=%" PRIu64 "..%" PRIu64 " object=%s number=%s position=%" PRIu64 " size=%" PRIu64
               " blocks=%u\n",
               r->first_offset, r->end_offset, r->object.kind == OBJECT_DATA ? "data" : "entry", number, r->position,
               r->size_bytes, r->block_count);
    }
}

static void verify_section(struct inspect *x, const char *key, const struct objlog_header *h,
                           const struct object_section *s, uint64_t position) {
    struct stream_state d;
    struct reader r = reader_of(s->delta, s->delta_size);
    enum err e = state_decode(&d, x->env->mem, &r);
    if (e != OK) {
        inspect_bad(x, key, position, e, "section of stream %" PRIu64 ": its state: %s", s->stream.v, err_text(e));
        return;
    }
    if (x->verbose) section_print(s, &d);
    uint64_t body = OBJLOG_HEADER_SIZE + h->head_size;
    for (uint32_t i = 0; i < d.range_count; i++) {
        const struct state_range *g = &d.ranges[i];
        if (g->object.number != OBJECT_THIS_ENTRY) continue;
        struct slice data = {0};
        uint64_t first = 0, end = 0;
        if (g->position > h->body_size || g->size_bytes > h->body_size - g->position) e = ERR_TRUNCATED;
        if (e == OK) e = read_part(x, key, body + g->position, g->size_bytes, &data);
        if (e == OK) {
            verify_piece(x, key, body + g->position, data, g->block_count, &first, &end);
            if (end > 0 && (first != g->first_offset || end != g->end_offset)) e = ERR_GAP;
            slice_unref(&data);
        }
        if (e != OK)
            inspect_bad(x, key, body + g->position, e, "piece of stream %" PRIu64 ": %s", s->stream.v, err_text(e));
    }
    state_deinit(&d);
}

static void verify_state(struct inspect *x, const char *key, const struct objlog_header *h,
                         const struct object_state_pointer *p) {
    if (x->verbose) {
        char entry[24] = "this entry";
        if (p->entry != OBJECT_THIS_ENTRY) (void)snprintf(entry, sizeof(entry), "%" PRIu64, p->entry);
        printf("    state stream=%" PRIu64 " epoch=%d size=%u entry=%s position=%" PRIu64 "%s\n", p->stream.v, p->epoch,
               p->size, entry, p->position, p->refused ? " REFUSED" : "");
    }
    if (p->entry != OBJECT_THIS_ENTRY)
        return; /* its bytes are in another entry's body, which has a checksum of its own */
    uint64_t body = OBJLOG_HEADER_SIZE + h->head_size;
    struct slice data = {0};
    enum err e = p->position > h->body_size || p->size > h->body_size - p->position
                     ? ERR_TRUNCATED
                     : read_part(x, key, body + p->position, p->size, &data);
    if (e == OK && crc32c(0, data.data, data.size) != p->crc) e = ERR_CORRUPT;
    if (e == OK) {
        struct reader r = reader_of(data.data, data.size);
        struct stream_state s;
        e = state_decode(&s, x->env->mem, &r);
        if (e == OK) state_deinit(&s);
    }
    slice_unref(&data);
    if (e != OK)
        inspect_bad(x, key, body + p->position, e, "state of stream %" PRIu64 ": %s", p->stream.v, err_text(e));
}

static void verify_ledger_head(struct inspect *x, const char *key, const struct objlog_entry *entry) {
    const struct objlog_header *h = &entry->header;
    if (h->kind == OBJLOG_FENCE) {
        printf(" recoverer=%" PRIu64 "\n", entry->head.size == 8 ? le64_get(entry->head.data) : 0);
        return;
    }
    struct reader r = reader_of(entry->head.data, entry->head.size);
    struct object_head head;
    enum err e = object_head_decode(&r, &head);
    if (e != OK) {
        printf("\n");
        inspect_bad(x, key, OBJLOG_HEADER_SIZE, e, "head of the ledger entry: %s", err_text(e));
        return;
    }
    printf(" sections=%u states=%u wal_id=", head.section_count, head.state_count);
    for (unsigned i = 0; i < 16; i++) printf("%02x", head.wal_id[i]);
    printf("%s", head.closed ? " closed" : "");
    if (head.members.version > 0) printf(" wal_membership=%" PRIu64 " members=", head.members.version);
    for (unsigned i = 0; i < head.members.count; i++) {
        if (i > 0) printf(",");
        for (unsigned k = 0; k < 16; k++) printf("%02x", head.members.ids[i][k]);
    }
    printf("\n");
    for (uint32_t i = 0; i < head.section_count && e == OK; i++) {
        struct object_section s;
        uint64_t position = OBJLOG_HEADER_SIZE + (uint64_t)(r.at - entry->head.data);
        e = object_section_decode(&r, &s);
        if (e == OK)
            verify_section(x, key, h, &s, position);
        else
            inspect_bad(x, key, position, e, "section %u: %s", i, err_text(e));
    }
    for (uint32_t i = 0; i < head.state_count && e == OK; i++) {
        struct object_state_pointer p;
        uint64_t position = OBJLOG_HEADER_SIZE + (uint64_t)(r.at - entry->head.data);
        e = object_state_decode(&r, &p);
        if (e == OK)
            verify_state(x, key, h, &p);
        else
            inspect_bad(x, key, position, e, "state %u: %s", i, err_text(e));
    }
    if (e == OK && reader_left(&r) > 0)
        inspect_bad(x, key, OBJLOG_HEADER_SIZE + h->head_size - reader_left(&r), ERR_CORRUPT,
                    "the head has %zu bytes too many", reader_left(&r));
}

static const char *record_name(enum meta_record_kind k) {
    static const char *const names[] = {[META_REGISTRATION] = "registration",
                                        [META_TOPIC_CREATE] = "topic_create",
                                        [META_TOPIC_DELETE] = "topic_delete",
                                        [META_TOPIC_CONFIGURE] = "topic_configure",
                                        [META_RECOVERED] = "recovered",
                                        [META_PRODUCER_IDS] = "producer_ids",
                                        [META_FORGET_RETIRED] = "forget_retired",
                                        [META_PARTITIONS_ADD] = "partitions_add",
                                        [META_BROKER_CONFIGURE] = "broker_configure"};
    return (size_t)k < ARRAY_LEN(names) && names[k] ? names[k] : "?";
}

static void verify_cluster_head(struct inspect *x, const char *key, const struct objlog_entry *entry) {
    struct mem *m = x->env->mem;
    if (entry->header.kind == OBJLOG_CHECKPOINT) {
        struct meta_image image;
        enum err e = meta_snapshot_decode(&image, m, entry->head);
        if (e != OK) {
            printf("\n");
            inspect_bad(x, key, OBJLOG_HEADER_SIZE, e, "snapshot: %s", err_text(e));
            return;
        }
        printf(" topics=%zu brokers=%zu next_stream=%" PRIu64 "\n", image.topic_count, image.broker_count,
               image.next_stream);
        for (size_t i = 0; x->verbose && i < image.topic_count; i++)
            printf("    topic name=%s partitions=%d\n", image.topics[i]->name, image.topics[i]->partition_count);
        meta_image_deinit(&image);
        return;
    }
    struct reader r = reader_of(entry->head.data, entry->head.size);
    printf(" records=");
    enum err e = OK;
    uint64_t position = OBJLOG_HEADER_SIZE;
    for (unsigned i = 0; e == OK && reader_left(&r) > 0; i++) {
        struct meta_record record;
        position = OBJLOG_HEADER_SIZE + (uint64_t)(r.at - entry->head.data);
        e = meta_record_decode(&record, m, &r);
        if (e == OK) printf("%s%s", i ? "," : "", record_name(record.kind));
        if (e == OK) meta_record_deinit(&record, m);
    }
    printf("\n");
    if (e != OK) inspect_bad(x, key, position, e, "record: %s", err_text(e));
}

bool inspect_entry(struct inspect *x, const char *key, bool ledger, struct objlog_entry *entry, bool *gone) {
    const char *slash = strrchr(key, '/');
    ASSERT(slash);
    char *prefix = mem_strndup(x->env->mem, key, (size_t)(slash - key));
    uint64_t number = strtoull(slash + 1, NULL, 10);
    enum err e = objlog_read(x->store, prefix, number, STORE_FOR_OTHER, entry);
    mem_free(x->env->mem, prefix);
    *gone = e == ERR_NOT_FOUND;
    if (e != OK) {
        if (!*gone) inspect_bad(x, key, 0, e, "header or head of the entry: %s", err_text(e));
        return false;
    }
    const struct objlog_header *h = &entry->header;
    x->objects++;
    printf("%s kind=%s number=%" PRIu64 " boundary=%" PRIu64 " writer=%" PRIu64 " head=%" PRIu64 " body=%" PRIu64, key,
           inspect_kind_name(h->kind), h->number, h->boundary, h->writer, h->head_size, h->body_size);
    if (ledger)
        verify_ledger_head(x, key, entry);
    else
        verify_cluster_head(x, key, entry);
    verify_body(x, key, h);
    return true;
}

void inspect_object(struct inspect *x, const char *key, bool listed) {
    struct object_id id;
    char cluster[64];
    (void)snprintf(cluster, sizeof(cluster), "%s/cluster/", x->generation);
    bool entry_of_cluster = strncmp(key, cluster, strlen(cluster)) == 0 && strlen(key) == strlen(cluster) + 20;
    bool known = object_key_parse(key, x->generation, &id);
    if (strcmp(key, META_CLUSTER_KEY) == 0) {
        x->objects++;
        printf("%s kind=cluster generation=%s\n", key, x->generation); /* verified when the store was opened */
    } else if (entry_of_cluster || (known && id.kind == OBJECT_LEDGER_ENTRY)) {
        struct objlog_entry e;
        bool gone;
        if (inspect_entry(x, key, !entry_of_cluster, &e, &gone))
            objlog_entry_deinit(&e);
        else if (gone && !listed)
            inspect_bad(x, key, 0, ERR_NOT_FOUND, "there is no such object");
    } else if (known) {
        verify_data_object(x, key, id, listed);
    } else if (strncmp(key, "oxbow/", 6) == 0 || strstr(key, "probe")) {
        printf("%s kind=probe\n", key);
    } else {
        struct slice s = {0};
        enum err e = store_get(x->store, key, 0, 1, STORE_FOR_OTHER, &s);
        slice_unref(&s);
        if (e == OK)
            printf("%s kind=unknown (of another cluster, or not ours)\n", key);
        else if (!listed || e != ERR_NOT_FOUND)
            inspect_bad(x, key, 0, e, "%s", err_text(e));
    }
}

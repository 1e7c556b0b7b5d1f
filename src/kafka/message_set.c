/* The old formats, read and written. The layout is in the header file. */
#include "kafka/message_set.h"

#include <zlib.h>

#include "base/assert.h"

enum {
    AT_OFFSET = 0,
    AT_SIZE = 8,
    AT_CRC = 12,
    AT_MAGIC = 16,
    AT_ATTRIBUTES = 17,
    AT_TIMESTAMP = 18, /* magic 1 */
};
#define SET_OVERHEAD ((size_t)12) /* offset and size */
#define MESSAGE_MIN ((size_t)14)  /* Kafka's least size, of either magic */
#define LOG_APPEND_TIME 0x08
/* About how much a wrapper made here unfolds to: bounds memory, and lets readers with small buffers go on. */
#define WRAPPER_UNPACKED_MAX ((size_t)1 << 20)
#define WRAPPER_UNPACKED_MIN ((size_t)1024)

/* One message, its lengths checked; borrows. */
struct message {
    size_t size; /* with offset and size */
    int8_t magic, attributes;
    int64_t timestamp; /* BATCH_NO_TIMESTAMP for magic 0 */
    const uint8_t *key, *value;
    int32_t key_size, value_size; /* -1: null */
};

static uint32_t checksum(const uint8_t *data, size_t size) {
    ASSERT(size <= INT32_MAX);
    return (uint32_t)crc32(0, data, (uInt)size);
}

/* A length and its bytes at *at; false past the end. */
static bool take_sized(const uint8_t **at, const uint8_t *end, const uint8_t **data, int32_t *size) {
    if (end - *at < 4) return false;
    *size = (int32_t)be32_get(*at);
    *at += 4;
    if (*size < -1 || *size > end - *at) return false;
    *data = *size < 0 ? NULL : *at;
    if (*size > 0) *at += *size;
    return true;
}

/* Reads the message at data. ERR_TRUNCATED: it goes on behind `size`. ERR_CORRUPT_MESSAGE. A magic above 1 is returned
 * with OK and nothing else read. */
static enum err message_read(const uint8_t *data, size_t size, struct message *out) {
    *out = (struct message){.timestamp = BATCH_NO_TIMESTAMP};
    if (size < SET_OVERHEAD) return ERR_TRUNCATED;
    int32_t length = (int32_t)be32_get(data + AT_SIZE);
    if (length < (int32_t)MESSAGE_MIN) return ERR_CORRUPT_MESSAGE;
    if (size <= AT_MAGIC) return ERR_TRUNCATED;
    out->magic = (int8_t)data[AT_MAGIC];
    if (out->magic < 0 || out->magic > 2) return ERR_CORRUPT_MESSAGE;
    out->size = (size_t)length + SET_OVERHEAD;
    if (out->magic == 2) return OK;
    if (size < out->size) return ERR_TRUNCATED;
    const uint8_t *at = data + AT_TIMESTAMP, *end = data + out->size;
    out->attributes = (int8_t)data[AT_ATTRIBUTES];
    if (out->magic == 1) {
        if (end - at < 8) return ERR_CORRUPT_MESSAGE;
        out->timestamp = (int64_t)be64_get(at);
        at += 8;
    }
    bool sound = take_sized(&at, end, &out->key, &out->key_size) && take_sized(&at, end, &out->value, &out->value_size);
    return sound && at == end ? OK : ERR_CORRUPT_MESSAGE;
}

static bool message_is_sound(const uint8_t *data, const struct message *m) {
    return checksum(data + AT_MAGIC, m->size - AT_MAGIC) == be32_get(data + AT_CRC);
}

static int message_codec(const struct message *m) {
    return m->attributes & BATCH_CODEC_MASK;
}

static enum err refuse(enum err e, const char *message, const char **why) {
    *why = message;
    return e;
}

/* ---- Reading ---- */

static enum err judge_top(const struct message_set *set, const uint8_t *at, const struct message *m, size_t message_max,
                          const char **why) {
    if (m->magic != set->magic)
        return refuse(ERR_INVALID_RECORD, "the messages of a set must all have the same magic", why);
    if (m->size > message_max)
        return refuse(ERR_MESSAGE_TOO_LARGE, "a message of the set is larger than max.message.bytes", why);
    if (!message_is_sound(at, m)) return refuse(ERR_CORRUPT_MESSAGE, "the checksum of a message does not match", why);
    if (message_codec(m) >= CODEC_COUNT) return refuse(ERR_CORRUPT_MESSAGE, "a message has an unknown codec", why);
    if (message_codec(m) == CODEC_ZSTD)
        return refuse(ERR_UNSUPPORTED_COMPRESSION, "zstd needs version 7 or later of the Produce request", why);
    if (m->magic == 1 && (m->attributes & LOG_APPEND_TIME))
        return refuse(ERR_INVALID_TIMESTAMP, "the timestamp type LogAppendTime is the broker's to set", why);
    return OK;
}

enum err message_set_parse(const uint8_t *data, size_t size, size_t message_max, struct message_set *set,
                           const char **why) {
    *set = (struct message_set){.data = data};
    *why = NULL;
    while (set->size < size) {
        const uint8_t *at = data + set->size;
        struct message m;
        enum err e = message_read(at, size - set->size, &m);
        if (e == ERR_TRUNCATED) break;
        if (e != OK) return refuse(e, "a message of the set makes no sense", why);
        if (set->count == 0) set->magic = m.magic;
        if (set->magic == 2 && set->count == 0) {
            set->count = 1;
            return OK;
        }
        e = judge_top(set, at, &m, message_max, why);
        if (e != OK) return e;
        if (message_codec(&m) != CODEC_NONE) set->codec = (enum kafka_codec)message_codec(&m);
        set->size += m.size;
        set->count++;
    }
    if (set->codec != CODEC_NONE && set->count > 1)
        return refuse(ERR_INVALID_RECORD, "a compressed message must be the only one of its set", why);
    return OK;
}

/* ---- To a batch ---- */

struct up {
    const struct message_set *set;
    const struct message_set_up *how;
    struct batch_builder builder;
    struct batch_check *check;
    const char **why;
};

static enum err up_add(struct up *u, const struct message *m) {
    struct batch_check *c = u->check;
    int32_t index = u->builder.count;
    if (u->how->need_keys && m->key_size < 0) {
        c->bad_record = index;
        return refuse(ERR_INVALID_RECORD, "compacted topics do not take records without a key", u->why);
    }
    if (index == 0 || m->timestamp > c->max_timestamp) {
        c->max_timestamp = m->timestamp;
        c->max_timestamp_delta = index;
    }
    if (index == 0 || m->timestamp < c->min_timestamp) c->min_timestamp = m->timestamp;
    if (m->key_size >= 1 << 30 || m->value_size >= 1 << 30) return refuse(ERR_MESSAGE_TOO_LARGE, "too large", u->why);
    batch_builder_add(&u->builder, m->timestamp, m->key, m->key_size > 0 ? (size_t)m->key_size : 0, m->value,
                      m->value_size > 0 ? (size_t)m->value_size : 0, NULL, 0);
    if (u->how->codec == CODEC_NONE && u->builder.records.size + BATCH_HEADER_SIZE > u->how->batch_max)
        return refuse(ERR_MESSAGE_TOO_LARGE, "the messages make a record batch larger than max.message.bytes", u->why);
    return OK;
}

/* What a wrapper unfolded to. As with Kafka a part of a message at its end is passed over. */
static enum err up_inner(struct up *u, const uint8_t *data, size_t size) {
    while (size > 0) {
        struct message m;
        enum err e = message_read(data, size, &m);
        if (e == ERR_TRUNCATED) break;
        if (e != OK) return refuse(e, "a compressed message makes no sense", u->why);
        if (m.magic != u->set->magic)
            return refuse(ERR_INVALID_RECORD, "a compressed message has another magic than its wrapper", u->why);
        if (!message_is_sound(data, &m))
            return refuse(ERR_CORRUPT_MESSAGE, "the checksum of a compressed message does not match", u->why);
        if (message_codec(&m) != CODEC_NONE)
            return refuse(ERR_INVALID_RECORD, "a compressed message may not hold another one", u->why);
        e = up_add(u, &m);
        if (e != OK) return e;
        data += m.size;
        size -= m.size;
    }
    return u->builder.count > 0 ? OK : refuse(ERR_INVALID_RECORD, "a compressed message holds no messages", u->why);
}

static enum err up_wrapper(struct up *u, struct mem *mem) {
    struct message m;
    enum err e = message_read(u->set->data, u->set->size, &m);
    ASSERT(e == OK); /* message_set_parse has read it */
    if (m.value_size < 0) return refuse(ERR_INVALID_RECORD, "a compressed message has no value", u->why);
    struct buf unpacked;
    buf_init(&unpacked, mem);
    e = m.magic == 0
            ? kafka_decompress_magic0(u->set->codec, m.value, (size_t)m.value_size, u->how->unpack_limit, &unpacked)
            : kafka_decompress(u->set->codec, m.value, (size_t)m.value_size, u->how->unpack_limit, &unpacked);
    if (e == ERR_TOO_LARGE) {
        *u->why = "the message set unfolds to more than the broker takes";
    } else if (e != OK && e != ERR_NO_MEMORY) {
        e = refuse(ERR_CORRUPT_MESSAGE, "the message set cannot be decompressed", u->why);
    }
    if (e == OK) e = up_inner(u, unpacked.data, unpacked.size);
    buf_deinit(&unpacked);
    return e;
}

static enum err up_plain(struct up *u) {
    const struct message_set *set = u->set;
    for (size_t at = 0; at < set->size;) {
        struct message m;
        enum err e = message_read(set->data + at, set->size - at, &m);
        ASSERT(e == OK);
        e = up_add(u, &m);
        if (e != OK) return e;
        at += m.size;
    }
    return OK;
}

enum err message_set_up_convert(const struct message_set *set, struct mem *m, const struct message_set_up *how,
                                struct buf *out, struct batch_check *check, const char **why) {
    ASSERT(set->count > 0 && set->magic < 2);
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = how->codec;
    o.level = how->level;
    struct up u = {.set = set, .how = how, .check = check, .why = why};
    *why = NULL;
    *check = (struct batch_check){
        .max_timestamp = BATCH_NO_TIMESTAMP, .min_timestamp = BATCH_NO_TIMESTAMP, .bad_record = -1};
    size_t before = out->size;
    batch_builder_init(&u.builder, m, &o);
    enum err e = set->codec == CODEC_NONE ? up_plain(&u) : up_wrapper(&u, m);
    if (e == OK) e = batch_builder_finish(&u.builder, out);
    batch_builder_deinit(&u.builder);
    if (e != OK) out->size = before;
    return e;
}

/* ---- From batches ---- */

struct down {
    const struct message_set_down *how;
    struct mem *mem;
    struct buf *out;
    bool full;
    /* Of the batch at hand. */
    enum kafka_codec codec;
    bool log_append_time;
    /* The wrapper that is being filled: messages in the new form, and what its own fields will be. */
    struct buf inner;
    int64_t inner_first, inner_last, inner_timestamp;
    size_t inner_max;
};

static size_t message_size(int8_t magic, int32_t key_size, size_t value_size) {
    size_t fixed = (size_t)AT_TIMESTAMP + (magic == 1 ? 8 : 0) + 4 + 4;
    return fixed + (key_size > 0 ? (size_t)key_size : 0) + value_size;
}

/* value NULL: null. */
static void message_write(struct buf *out, int8_t magic, int attributes, int64_t offset, int64_t timestamp,
                          const uint8_t *key, int32_t key_size, const uint8_t *value, size_t value_size) {
    size_t size = message_size(magic, key_size, value_size);
    uint8_t *p = buf_extend(out, size), *at = p + AT_TIMESTAMP;
    be64_put(p + AT_OFFSET, (uint64_t)offset);
    be32_put(p + AT_SIZE, (uint32_t)(size - SET_OVERHEAD));
    p[AT_MAGIC] = (uint8_t)magic;
    p[AT_ATTRIBUTES] = (uint8_t)attributes;
    if (magic == 1) {
        be64_put(at, (uint64_t)timestamp);
        at += 8;
    }
    be32_put(at, (uint32_t)key_size);
    at += 4;
    if (key_size > 0) {
        memcpy(at, key, (size_t)key_size);
        at += key_size;
    }
    be32_put(at, value ? (uint32_t)value_size : UINT32_MAX);
    if (value_size > 0) memcpy(at + 4, value, value_size);
    be32_put(p + AT_CRC, checksum(p + AT_MAGIC, size - AT_MAGIC));
}

/* Whether a message of `size` bytes may be written to the set; then down_wrote says what becomes of it. */
static bool down_fits(struct down *d, size_t size) {
    size_t used = d->out->size;
    if (used + size <= d->how->max_bytes) return true;
    d->full = true;
    return used == 0 && (d->how->whole_first || d->how->cut_first);
}

static void down_wrote(struct down *d) {
    if (d->full && !d->how->whole_first && d->out->size > d->how->max_bytes) d->out->size = d->how->max_bytes;
}

static int down_attributes(const struct down *d, enum kafka_codec codec) {
    return (int)codec | (d->how->magic == 1 && d->log_append_time ? LOG_APPEND_TIME : 0);
}

/* Ends the wrapper at hand, if there is one. */
static enum err down_flush(struct down *d) {
    if (d->inner.size == 0) return OK;
    struct buf packed;
    buf_init(&packed, d->mem);
    enum err e = OK;
    /* All of it may lie below what was asked for. */
    if (d->inner_last >= d->how->from_offset && !d->full) {
        e = d->how->magic == 0
                ? kafka_compress_magic0(d->codec, COMPRESS_LEVEL_DEFAULT, d->inner.data, d->inner.size, &packed)
                : kafka_compress(d->codec, COMPRESS_LEVEL_DEFAULT, d->inner.data, d->inner.size, &packed);
        if (e == OK && down_fits(d, message_size(d->how->magic, -1, packed.size))) {
            message_write(d->out, d->how->magic, down_attributes(d, d->codec), d->inner_last, d->inner_timestamp, NULL,
                          -1, packed.data, packed.size);
            down_wrote(d);
        }
    }
    buf_deinit(&packed);
    d->inner.size = 0;
    return e;
}

static enum err down_record(struct down *d, const struct batch_record *r) {
    size_t value_size = r->value_size > 0 ? (size_t)r->value_size : 0;
    size_t size = message_size(d->how->magic, r->key_size, value_size);
    if (size - SET_OVERHEAD > INT32_MAX) return ERR_TOO_LARGE;
    int attributes = down_attributes(d, CODEC_NONE);
    if (d->codec == CODEC_NONE) {
        /* Old readers stumble over plain messages below what they asked for. */
        if (r->offset < d->how->from_offset || !down_fits(d, size)) return OK;
        message_write(d->out, d->how->magic, attributes, r->offset, r->timestamp, r->key, r->key_size, r->value,
                      value_size);
        down_wrote(d);
        return OK;
    }
    if (d->inner.size > 0 && d->inner.size + size > d->inner_max) {
        enum err e = down_flush(d);
        if (e != OK || d->full) return e;
    }
    if (d->inner.size == 0) {
        d->inner_first = r->offset;
        d->inner_timestamp = r->timestamp;
    }
    d->inner_last = r->offset;
    if (r->timestamp > d->inner_timestamp) d->inner_timestamp = r->timestamp;
    int64_t offset = d->how->magic == 0 ? r->offset : r->offset - d->inner_first;
    message_write(&d->inner, d->how->magic, attributes, offset, r->timestamp, r->key, r->key_size, r->value,
                  value_size);
    return OK;
}

static enum err down_batch(struct down *d, const struct batch_header *h) {
    if (batch_is_control(h)) return OK;
    if (batch_codec(h) == CODEC_ZSTD) {
        d->full = true;
        return d->out->size == 0 ? ERR_UNSUPPORTED_COMPRESSION : OK;
    }
    struct batch_iterator it;
    enum err e = batch_iterator_init(&it, d->mem, h, d->how->unpack_limit);
    if (e != OK) return e;
    d->codec = batch_codec(h);
    d->log_append_time = (h->attributes & BATCH_LOG_APPEND_TIME) != 0;
    struct batch_record r;
    while (!d->full && (e = batch_iterator_next(&it, &r)) == OK) {
        e = down_record(d, &r);
        if (e != OK) break;
    }
    if (e == ERR_NOT_FOUND) e = OK;
    if (e == OK) e = down_flush(d);
    batch_iterator_deinit(&it);
    return e;
}

enum err message_set_down_convert(const uint8_t *data, size_t size, struct mem *m, const struct message_set_down *how,
                                  struct buf *out, bool *full) {
    ASSERT(how->magic == 0 || how->magic == 1);
    struct down d = {.how = how, .mem = m, .out = out};
    /* A wrapper should fit the limit even if nothing in it can be compressed. */
    size_t room = how->max_bytes - how->max_bytes / 8;
    d.inner_max = room < WRAPPER_UNPACKED_MIN ? WRAPPER_UNPACKED_MIN : room;
    if (d.inner_max > WRAPPER_UNPACKED_MAX) d.inner_max = WRAPPER_UNPACKED_MAX;
    buf_init(&d.inner, m);
    enum err e = OK;
    while (size > 0 && !d.full && e == OK) {
        struct batch_header h;
        e = batch_parse_unchecked(data, size, &h);
        if (e == ERR_TRUNCATED) e = ERR_CORRUPT_MESSAGE;
        if (e != OK) break;
        e = down_batch(&d, &h);
        data += h.size;
        size -= h.size;
    }
    buf_deinit(&d.inner);
    *full = d.full;
    return e;
}

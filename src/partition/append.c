/* Produce: from a client's bytes to a batch with an offset.
 *
 *   take a turn -> (an old client's message set: make it a batch) -> judge the header -> judge the records (perhaps on a worker) -> recompress (rarely; on a worker) ->
 *   await the turn -> judge the sequence numbers -> reserve room -> decide offset, time, segment -> append -> end
 *   the turn
 *
 * Everything up to the turn needs nothing of the partition's state, so several appends prepare side by side; from
 * the turn on they go one by one, in the order in which they
 * were called. Nothing suspends between the decision and the append. An uncompressed batch that finds room goes
 * through without a system call, a lock or an allocation:
 * its bytes are read twice (checksum, records) and copied once, by stream_append.
 *
 * A message set of some size is converted with the turn, not before: so a partition holds the memory of one at most, and
 * what holds memory never waits for what waits for memory.
 *
 * Checks and their order are Kafka's for Produce 3 and later. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "partition/partition_priv.h"
#include "stream/object.h"
#include "stream/record.h"

/* Bytes of a batch that its own checksum does not cover, and where that checksum lies. */
#define UNCHECKED_SIZE ((size_t)21)
#define CRC_AT 17
#define LENGTH_AT 8

#define WRONG_COUNT "the number of records does not go with the last offset of the batch"

struct append {
    struct partition *p;
    struct topic_config config; /* as it was when the append came: a change takes effect with the next one */
    uint8_t *data;
    size_t size;
    struct batch_header header; /* of data */
    struct buf repacked;        /* what data points into after recompression */
    struct batch_check check;
    unsigned flags; /* of the WAL record */
    struct partition_append_result *out;
    struct partition_turn turn;
    struct conversion_up old; /* Produce before version 3 */
    bool framed;              /* one batch came; what is wrong is in it */
};

static enum err refuse(struct append *a, enum err e, const char *message) {
    a->out->message = message;
    return e;
}

/* Of a header that makes no sense: did the client write it so, or did it become so on its way? */
static bool count_is_wrong(const struct append *a) {
    const struct batch_header *h = &a->header;
    return h->size >= BATCH_HEADER_SIZE && h->size == a->size &&
           (h->record_count <= 0 || h->record_count != (int64_t)h->last_offset_delta + 1) &&
           crc32c(0, a->data + UNCHECKED_SIZE, a->size - UNCHECKED_SIZE) == h->crc;
}

/* The framing: what can be said before the checksum is computed. */
static enum err judge_frame(struct append *a, int16_t api_version) {
    const struct batch_header *h = &a->header;
    if (a->size == 0)
        return refuse(a, ERR_INVALID_RECORD,
                      "a produce request must carry exactly one record batch for a partition, found none");
    enum err e = batch_parse_unchecked(a->data, a->size, &a->header);
    if (e == ERR_TRUNCATED) return refuse(a, ERR_INVALID_RECORD, "the record batch is longer than the bytes that came");
    if (e == ERR_INVALID_RECORD) return refuse(a, e, "a record batch must have magic 2");
    a->framed = e == ERR_CORRUPT_MESSAGE && count_is_wrong(a);
    if (a->framed) return refuse(a, ERR_INVALID_RECORD, WRONG_COUNT);
    if (e != OK) return refuse(a, e, "the header of the record batch makes no sense");
    ASSERT(h->size >= BATCH_HEADER_SIZE && h->size <= a->size);
    if (h->size != a->size)
        return refuse(a, ERR_INVALID_RECORD,
                      "a produce request must carry exactly one record batch for a partition, found more");
    if (batch_codec(h) == CODEC_ZSTD && api_version < 7) {
        return refuse(a, ERR_UNSUPPORTED_COMPRESSION, "zstd needs version 7 or later of the Produce request");
    }
    a->framed = true;
    if (h->base_offset != 0)
        return refuse(a, ERR_INVALID_RECORD, "the base offset of a record batch in a produce request must be 0");
    if (a->size > (size_t)a->config.max_message_bytes)
        return refuse(a, ERR_MESSAGE_TOO_LARGE, "the record batch is larger than max.message.bytes");
    return OK;
}

static enum err judge_header(struct append *a) {
    const struct batch_header *h = &a->header;
    if (crc32c(0, a->data + UNCHECKED_SIZE, a->size - UNCHECKED_SIZE) != h->crc) {
        return refuse(a, ERR_CORRUPT_MESSAGE, "the checksum of the record batch does not match");
    }
    if (h->record_count <= 0 || h->record_count != (int64_t)h->last_offset_delta + 1) {
        return refuse(a, ERR_INVALID_RECORD, WRONG_COUNT);
    }
    if (batch_is_control(h)) return refuse(a, ERR_INVALID_RECORD, "clients may not write control records");
    if (h->attributes & BATCH_DELETE_HORIZON)
        return refuse(a, ERR_INVALID_RECORD, "clients may not set a delete horizon");
    if (h->producer_id >= 0 && h->base_sequence < 0)
        return refuse(a, ERR_INVALID_RECORD, "a batch with a producer id needs a base sequence of at least 0");
    if (h->producer_id >= 0 && h->producer_epoch < 0)
        return refuse(a, ERR_INVALID_RECORD, "a batch with a producer id needs a producer epoch of at least 0");
    if (batch_is_transactional(h))
        return refuse(a, ERR_TRANSACTIONAL_ID_AUTHORIZATION, "this broker does not support transactions yet");
    if (h->attributes & BATCH_LOG_APPEND_TIME)
        return refuse(a, ERR_INVALID_TIMESTAMP, "the timestamp type LogAppendTime is the broker's to set");
    return OK;
}

/* Worker jobs. What they touch is the suspended caller's alone. */
struct validation {
    struct append *a;
    size_t limit;
    unsigned flags;
    enum err result;
};

static void validate_on_worker(void *arg) {
    struct validation *v = arg;
    v->result = batch_validate_records(&v->a->header, v->a->p->env->mem, v->limit, v->flags, &v->a->check);
}

/* May suspend for compressed batches. */
static enum err validate(struct append *a, unsigned flags) {
    struct validation v = {a, PARTITION_UNPACK_MAX, flags, OK};
    bool here = batch_codec(&a->header) == CODEC_NONE;
    if (!here && a->size <= PARTITION_INLINE_PACKED) {
        v.limit = PARTITION_INLINE_UNPACKED;
        here = true;
    }
    if (here) {
        validate_on_worker(&v);
        if (v.result != ERR_TOO_LARGE) return v.result;
        v.limit = PARTITION_UNPACK_MAX;
    }
    env_offload(a->p->env, validate_on_worker, &v);
    return v.result;
}

/* Kafka: record.timestamp - now above the one limit, or now - record.timestamp above the other; records without a
 * timestamp pass. */
static bool timestamp_fits(int64_t timestamp, int64_t now_ms, int64_t before_max_ms, int64_t after_max_ms) {
    if (timestamp == BATCH_NO_TIMESTAMP) return true;
    __int128 ahead = (__int128)timestamp - now_ms;
    return ahead > 0 ? ahead <= after_max_ms || after_max_ms == INT64_MAX
                     : -ahead <= before_max_ms || before_max_ms == INT64_MAX;
}

struct timestamp_search {
    struct append *a;
    int64_t now_ms;
    enum err result;
};

/* Finds the record at fault: only for batches of which the smallest or largest timestamp lies outside. */
static void find_bad_timestamp(void *arg) {
    struct timestamp_search *s = arg;
    struct append *a = s->a;
    struct batch_iterator it;
    s->result = batch_iterator_init(&it, a->p->env->mem, &a->header, PARTITION_UNPACK_MAX);
    if (s->result != OK) return;
    int64_t before = topic_config_before_max_ms(&a->config), after = topic_config_after_max_ms(&a->config);
    struct batch_record r;
    for (int32_t i = 0; batch_iterator_next(&it, &r) == OK; i++) {
        if (timestamp_fits(r.timestamp, s->now_ms, before, after)) continue;
        a->out->bad_record = i;
        s->result = ERR_INVALID_TIMESTAMP;
        break;
    }
    batch_iterator_deinit(&it);
}

/* May suspend. */
static enum err judge_timestamps(struct append *a) {
    if (a->config.message_timestamp_type == TOPIC_LOG_APPEND_TIME) return OK;
    struct timestamp_search s = {a, env_wall_ms(a->p->env), OK};
    int64_t before = topic_config_before_max_ms(&a->config), after = topic_config_after_max_ms(&a->config);
    if (timestamp_fits(a->check.max_timestamp, s.now_ms, before, after) &&
        (before == INT64_MAX || (a->check.min_timestamp != BATCH_NO_TIMESTAMP &&
                                 timestamp_fits(a->check.min_timestamp, s.now_ms, before, after)))) {
        return OK;
    }
    if (batch_codec(&a->header) == CODEC_NONE) {
        find_bad_timestamp(&s);
    } else {
        env_offload(a->p->env, find_bad_timestamp, &s);
    }
    return s.result == ERR_INVALID_TIMESTAMP
               ? refuse(a, s.result, "the timestamp of a record lies outside the limits of the topic")
               : s.result;
}

/* May suspend for compressed batches. */
static enum err judge_records(struct append *a) {
    bool compacted = (a->config.cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0;
    enum err e = validate(a, compacted ? BATCH_CHECK_KEYS : 0);
    if (e == ERR_TOO_LARGE)
        return refuse(a, ERR_MESSAGE_TOO_LARGE, "the record batch unfolds to more than the broker takes");
    if (e == ERR_CORRUPT_MESSAGE) return refuse(a, e, "the record batch cannot be decompressed");
    if (e == ERR_INVALID_RECORD) {
        a->out->bad_record = a->check.bad_record;
        /* Only this tells a missing key from a damaged record. */
        bool key = compacted && validate(a, 0) == OK;
        return refuse(
            a, e, key ? "compacted topics do not take records without a key" : "a record of the batch is malformed");
    }
    if (e != OK) return e;
    return judge_timestamps(a);
}

static enum kafka_codec wanted_codec(const struct topic_config *c, enum kafka_codec producers) {
    switch ((enum topic_compression)c->compression_type) {
    case TOPIC_COMPRESSION_PRODUCER:
        return producers;
    case TOPIC_COMPRESSION_NONE:
        return CODEC_NONE;
    case TOPIC_COMPRESSION_GZIP:
        return CODEC_GZIP;
    case TOPIC_COMPRESSION_SNAPPY:
        return CODEC_SNAPPY;
    case TOPIC_COMPRESSION_LZ4:
        return CODEC_LZ4;
    case TOPIC_COMPRESSION_ZSTD:
        return CODEC_ZSTD;
    }
    UNREACHABLE();
}

static int32_t wanted_level(const struct topic_config *c, enum kafka_codec codec) {
    if (codec == CODEC_GZIP) return c->compression_gzip_level;
    if (codec == CODEC_LZ4) return c->compression_lz4_level;
    if (codec == CODEC_ZSTD) return c->compression_zstd_level;
    return COMPRESS_LEVEL_DEFAULT;
}

static enum kafka_codec converted_codec(void *ctx, enum kafka_codec codec, int32_t *level) {
    const struct append *a = ctx;
    enum kafka_codec wanted = wanted_codec(&a->config, codec);
    *level = wanted == codec ? COMPRESS_LEVEL_DEFAULT : wanted_level(&a->config, wanted);
    return wanted;
}

static void await_turn(void *ctx) {
    struct append *a = ctx;
    partition_turn_await(a->p, &a->turn);
}

/* Produce before version 3. A message set becomes a batch: *converted. Kafka never enforced that such a request holds
 * the old formats, so a record batch goes on as it would in a newer one; and nothing at all is no error. Suspends. */
static enum err convert_set(struct append *a, bool *converted) {
    struct conversion_up *u = &a->old;
    u->data = a->data;
    u->size = a->size;
    u->message_max = (size_t)a->config.max_message_bytes;
    u->how.batch_max = u->message_max;
    u->how.need_keys = (a->config.cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0;
    u->codec_for = converted_codec;
    u->ctx = a;
    u->check.bad_record = -1;
    enum err e = conversions_up(a->p->conversions, u, await_turn, &a->repacked);
    if (e != OK) a->out->bad_record = u->check.bad_record;
    if (e != OK) return refuse(a, e == ERR_TOO_LARGE ? ERR_MESSAGE_TOO_LARGE : e, u->why);
    *converted = u->set.count == 0 || u->set.magic < 2;
    if (!*converted) return OK;
    a->data = a->repacked.data;
    a->size = a->repacked.size;
    if (a->size == 0) return OK;
    e = batch_parse_unchecked(a->data, a->size, &a->header);
    ASSERT(e == OK && a->header.size == a->size);
    if (a->size > (size_t)a->config.max_message_bytes)
        return refuse(a, ERR_MESSAGE_TOO_LARGE, "the messages make a record batch larger than max.message.bytes");
    a->check = u->check;
    return judge_timestamps(a);
}

struct repacking {
    struct append *a;
    enum kafka_codec codec;
    int32_t level;
    enum err result;
};

/* Header and records again, with another codec. */
static void repack_on_worker(void *arg) {
    struct repacking *r = arg;
    struct append *a = r->a;
    const uint8_t *records = a->data + BATCH_HEADER_SIZE;
    size_t size = a->size - BATCH_HEADER_SIZE;
    struct buf plain;
    buf_init(&plain, a->p->env->mem);
    r->result = OK;
    if (batch_codec(&a->header) != CODEC_NONE) {
        r->result = kafka_decompress(batch_codec(&a->header), records, size, PARTITION_UNPACK_MAX, &plain);
        records = plain.data;
        size = plain.size;
    }
    struct buf *out = &a->repacked;
    if (r->result == OK) {
        buf_put(out, a->data, BATCH_HEADER_SIZE);
        if (r->codec == CODEC_NONE) {
            buf_put(out, records, size);
        } else {
            r->result = kafka_compress(r->codec, r->level, records, size, out);
        }
    }
    buf_deinit(&plain);
    if (r->result != OK) return;
    be32_put(out->data + LENGTH_AT, (uint32_t)(out->size - BATCH_LENGTH_OFFSET));
    be16_put(out->data + UNCHECKED_SIZE, (uint16_t)((a->header.attributes & ~BATCH_CODEC_MASK) | (int)r->codec));
    be32_put(out->data + CRC_AT, crc32c(0, out->data + UNCHECKED_SIZE, out->size - UNCHECKED_SIZE));
}

/* Suspends if the topic wants another codec than the producer took. */
static enum err repack(struct append *a) {
    struct repacking r = {a, wanted_codec(&a->config, batch_codec(&a->header)), COMPRESS_LEVEL_DEFAULT, OK};
    if (r.codec == batch_codec(&a->header)) return OK;
    r.level = wanted_level(&a->config, r.codec);
    env_offload(a->p->env, repack_on_worker, &r);
    if (r.result != OK) return r.result == ERR_CORRUPT || r.result == ERR_TOO_LARGE ? ERR_CORRUPT_MESSAGE : r.result;
    a->data = a->repacked.data;
    a->size = a->repacked.size;
    enum err e = batch_parse_unchecked(a->data, a->size, &a->header);
    ASSERT(e == OK && a->header.size == a->size);
    if (a->size > (size_t)a->config.max_message_bytes) {
        return refuse(a, ERR_MESSAGE_TOO_LARGE,
                      "the record batch is larger than max.message.bytes in the topic's compression.type");
    }
    return OK;
}

/* Kafka's rule for a new segment: no room for the batch, too old by the records' own time, or offsets that no longer
 * fit 32 bits from its base. */
static bool rolls(const struct partition *p, const struct append *a, int64_t max_timestamp, int64_t now_ms) {
    const struct stream_state *s = &p->live;
    if (s->segment_count == 0) return false;
    const struct state_segment *active = &s->segments[s->segment_count - 1];
    /* Everything was deleted: the next segment begins where the log does. */
    if (!partition_active_in_use(p)) return active->size_bytes > 0;
    if (active->size_bytes + a->size > (uint64_t)p->config.segment_bytes) return true;
    uint64_t last_offset = s->end_offset + (uint64_t)a->header.last_offset_delta;
    if (last_offset - active->base_offset > (uint64_t)INT32_MAX) return true;
    int64_t waited, limit = topic_config_segment_ms(&p->config) - p->roll_jitter_ms;
    if (active->first_timestamp >= 0) {
        return !__builtin_sub_overflow(max_timestamp, active->first_timestamp, &waited) && waited > limit;
    }
    return !__builtin_sub_overflow(now_ms, p->segment_opened_ms, &waited) && waited > limit;
}

/* The decision. Does not suspend: between it and the append nobody else may come. */
static void commit(struct append *a) {
    struct partition *p = a->p;
    struct batch_header *h = &a->header;
    int64_t now_ms = env_wall_ms(p->env);
    int64_t max_timestamp = a->check.max_timestamp;
    int16_t attributes = h->attributes;
    if (a->config.message_timestamp_type == TOPIC_LOG_APPEND_TIME) {
        a->out->log_append_time_ms = now_ms;
        if (!env_mutant(p->env, MUTANT_CLIENT_TIME)) max_timestamp = now_ms;
        attributes = (int16_t)(attributes | BATCH_LOG_APPEND_TIME);
    }
    /* Timestamp lookup and retention believe the header, so it has to be right; Kafka corrects it too. */
    if (attributes != h->attributes || max_timestamp != h->max_timestamp)
        batch_set_attributes(a->data, attributes, max_timestamp);

    uint64_t base = p->live.end_offset, end = base + (uint64_t)h->last_offset_delta + 1;
    ASSERT(base == stream_appended_end(p->stream) && end > base && end <= (uint64_t)INT64_MAX);
    batch_set_position(a->data, (int64_t)base, p->leader_epoch);
    struct stream_record r = {
        .type = STREAM_BATCH,
        .flags = a->flags | (rolls(p, a, max_timestamp, now_ms) ? STREAM_RECORD_ROLLS : 0u),
        .base_offset = base,
        .end_offset = end,
        .max_timestamp = max_timestamp,
        .payload = a->data,
        .payload_size = a->size,
        /* The batch's own checksum covers the rest: nothing is read again. */
        .payload_crc =
            crc32c_combine(crc32c(0, a->data, UNCHECKED_SIZE), be32_get(a->data + CRC_AT), a->size - UNCHECKED_SIZE),
    };
    DCHECK(r.payload_crc == crc32c(0, a->data, a->size));
    /* The live state takes the batch by the same function by which the ledger's delta will: they cannot differ. */
    struct record_header view = {.payload_size = (uint32_t)a->size,
                                 .type = r.type,
                                 .flags = r.flags,
                                 .epoch = p->leader_epoch,
                                 .stream = p->id,
                                 .base_offset = base,
                                 .end_offset = end,
                                 .max_timestamp = max_timestamp};
    struct state_batch b;
    enum err e = object_batch_view(&view, a->data, &b);
    ASSERT(e == OK);
    stream_append(p->stream, &r);
    state_apply_batch(&p->live, &b);
    ASSERT(p->live.end_offset == end && end == stream_appended_end(p->stream));
    partition_count_producers(p);

    if (p->live.segments[p->live.segment_count - 1].base_offset == base) {
        p->segment_opened_ms = now_ms;
        partition_draw_jitter(p);
    }
    p->appended_ms = now_ms;
    partition_mark_note(p, end, a->size);
    p->counters.bytes_in += a->size;
    p->counters.batches_in++;
    p->counters.records_in += (uint64_t)h->record_count;
    a->out->base_offset = base;
    a->out->end_offset = end;
}

/* With the turn. Suspends for room. */
static enum err append_in_turn(struct append *a) {
    struct partition *p = a->p;
    if (a->header.producer_id >= 0 && !env_mutant(p->env, MUTANT_NO_SEQUENCES)) {
        struct producer_verdict v;
        enum err e = producer_check(&p->live, &a->header, &v);
        if (e == ERR_OUT_OF_ORDER_SEQUENCE && env_mutant(p->env, MUTANT_SEQUENCE_GAPS)) e = OK;
        if (e != OK) return refuse(a, e, v.message);
        if (v.original_end > 0) {
            a->out->base_offset = v.original_base;
            a->out->end_offset = env_mutant(p->env, MUTANT_DUPLICATE_EARLY) ? 0 : v.original_end;
            if (a->config.message_timestamp_type == TOPIC_LOG_APPEND_TIME)
                a->out->log_append_time_ms =
                    env_mutant(p->env, MUTANT_STAMP_AGAIN) ? env_wall_ms(p->env) : v.original_max_timestamp;
            return OK;
        }
        /* Forgetting another one instead would let its late repetitions in twice. */
        if (memory_is_over(p->env->metrics, MEMORY_PRODUCERS) && !state_producer_get(&p->live, a->header.producer_id))
            return refuse(a, ERR_POLICY_VIOLATION,
                          "no more idempotent producers are remembered: expected a larger state.bytes, or a shorter "
                          "producer.id.expiration.ms");
    }
    /* Only appends add to a producer's state and this one has the turn, so the verdict still holds when there is
     * room. */
    enum err e = stream_reserve(p->stream, a->size);
    if (e == ERR_CLOSED) return ERR_NOT_LEADER; /* nothing was done: the client may look for another broker */
    if (e == ERR_TOO_LARGE)
        return refuse(a, ERR_MESSAGE_TOO_LARGE, "the record batch is larger than the broker's write buffer");
    if (e != OK) return e;
    commit(a);
    return OK;
}

static enum err judge_batch(struct append *a, int16_t api_version) {
    enum err e = judge_frame(a, api_version);
    if (e == OK) e = judge_header(a);
    if (e == OK) e = judge_records(a);
    return e == OK ? repack(a) : e;
}

enum err partition_append(struct partition *p, uint8_t *records, size_t size, int16_t api_version,
                          struct partition_append_result *out) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    *out = (struct partition_append_result){
        .log_append_time_ms = -1, .bad_record = -1, .log_start_offset = stream_durable_start(p->stream)};
    if (!partition_enter(p)) return ERR_NOT_LEADER;
    struct append a = {.p = p, .config = p->config, .data = records, .size = size, .out = out};
    buf_init(&a.repacked, p->env->mem);
    partition_turn_take(p, &a.turn);
    bool converted = false;
    enum err e = api_version < 3 ? convert_set(&a, &converted) : OK;
    if (e == OK && !converted) e = judge_batch(&a, api_version);
    if (e == OK && a.size > (size_t)a.config.segment_bytes)
        e = refuse(&a, ERR_RECORD_LIST_TOO_LARGE, "the record batch is larger than segment.bytes");
    if (e == OK) {
        partition_turn_await(p, &a.turn);
        if (a.size > 0) {
            e = append_in_turn(&a);
        } else {
            out->base_offset = UINT64_MAX; /* nothing came */
        }
    }
    partition_turn_end(p, &a.turn);
    buf_deinit(&a.repacked);
    conversions_release(p->conversions, &a.old);
    out->log_start_offset = e == OK || a.framed ? stream_durable_start(p->stream) : UINT64_MAX;
    partition_leave(p);
    return e;
}

enum err partition_append_table(struct partition *p, uint8_t *batch, size_t size, uint64_t *end_offset) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    if (!partition_enter(p)) return ERR_NOT_LEADER;
    struct partition_append_result result = {.bad_record = -1};
    struct append a = {
        .p = p, .config = p->config, .data = batch, .size = size, .flags = STREAM_RECORD_TABLE, .out = &result};
    enum err e = batch_parse_unchecked(batch, size, &a.header);
    ASSERT(e == OK && a.header.size == size && batch_codec(&a.header) == CODEC_NONE && a.header.producer_id < 0);
    a.check.max_timestamp = a.header.max_timestamp;
    a.config.message_timestamp_type = TOPIC_CREATE_TIME; /* the time is the broker's already */
    struct partition_turn turn;
    partition_turn_take(p, &turn);
    partition_turn_await(p, &turn);
    e = stream_reserve(p->stream, size);
    if (e == OK) commit(&a);
    partition_turn_end(p, &turn);
    *end_offset = result.end_offset;
    partition_leave(p);
    return e;
}

struct state_table *partition_take_table(struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    struct state_table *t = p->live.table;
    p->live.table = NULL;
    return t;
}

enum err partition_wait(struct partition *p, uint64_t end_offset) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    ASSERT(end_offset <= p->live.end_offset);
    if (end_offset <= stream_durable_end(p->stream)) return OK;
    /* Also while closing: what was appended is answered for. */
    waitgroup_add(&p->users);
    enum err e = stream_wait_durable(p->stream, end_offset);
    ASSERT(e != OK || stream_durable_end(p->stream) >= end_offset);
    partition_leave(p);
    /* Whatever the reason: the records may be there later, so the answer must not say that they are not. */
    return e == OK ? OK : ERR_UNKNOWN_OUTCOME;
}

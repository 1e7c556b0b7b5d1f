/* Record batches of magic 2 (KIP-98), the only format that is stored. A batch is, big-endian:
 *
 *    0  base offset             int64    \ outside the checksum: the broker sets both in place
 *    8  length                  int32     | bytes behind this field
 *   12  partition leader epoch  int32    /
 *   16  magic                   int8     2
 *   17  crc                     uint32   CRC32C of everything from 21 to the end
 *   21  attributes              int16    0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
 *   23  last offset delta       int32
 *   27  base timestamp          int64
 *   35  max timestamp           int64
 *   43  producer id             int64    -1: none
 *   51  producer epoch          int16
 *   53  base sequence           int32
 *   57  record count            int32
 *   61  records, as a whole compressed by the codec
 *
 * A record: varint length of the rest, int8 attributes, varlong timestamp delta, varint offset delta, varint key length
 * (-1 null) and key, the same for the value, varint header count, and for each header a varint-sized key and value (-1
 * null). All varints are zigzag-coded.
 *
 * Nothing in a batch is believed before it was checked: parsing and iterating never read outside the bytes given. */
#ifndef OXBOW_KAFKA_BATCH_H
#define OXBOW_KAFKA_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "kafka/compress.h"

#define BATCH_HEADER_SIZE ((size_t)61)
#define BATCH_LENGTH_OFFSET ((size_t)12) /* size of a batch = its length field + this */

#define BATCH_CODEC_MASK 0x07
#define BATCH_LOG_APPEND_TIME 0x08
#define BATCH_TRANSACTIONAL 0x10
#define BATCH_CONTROL 0x20
#define BATCH_DELETE_HORIZON 0x40

#define BATCH_NO_PRODUCER ((int64_t)-1)
#define BATCH_NO_TIMESTAMP ((int64_t)-1)

/* A parsed header; borrows the batch's bytes. */
struct batch_header {
    const uint8_t *data; /* the whole batch, header first */
    size_t size;         /* of the whole batch: trailing bytes of the input are not counted */
    int64_t base_offset;
    int32_t partition_leader_epoch;
    int8_t magic;
    int16_t attributes;
    uint32_t crc;
    int32_t last_offset_delta; /* >= 0 */
    int64_t base_timestamp;
    int64_t max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count; /* 0 .. last_offset_delta + 1: compaction leaves gaps */
};

/* Reads the first batch of data[0..size); more bytes may follow. ERR_TRUNCATED when the batch is longer than `size`
 * (h->size is then what it claims, or 0 when not even that is known); ERR_INVALID_RECORD for the old formats (magic 0
 * and 1); ERR_CORRUPT_MESSAGE when length, magic, codec, checksum, last offset delta or count are wrong. h is filled as
 * far as it was read. */
enum err batch_parse(const uint8_t *data, size_t size, struct batch_header *h) WARN_UNUSED;
/* The same without computing the checksum: for bytes that were checked when they came in. */
enum err batch_parse_unchecked(const uint8_t *data, size_t size, struct batch_header *h) WARN_UNUSED;

static inline enum kafka_codec batch_codec(const struct batch_header *h) {
    return (enum kafka_codec)(h->attributes & BATCH_CODEC_MASK);
}
static inline bool batch_is_control(const struct batch_header *h) {
    return (h->attributes & BATCH_CONTROL) != 0;
}
static inline bool batch_is_transactional(const struct batch_header *h) {
    return (h->attributes & BATCH_TRANSACTIONAL) != 0;
}
static inline int64_t batch_last_offset(const struct batch_header *h) {
    return h->base_offset + h->last_offset_delta;
}
static inline int64_t batch_end_offset(const struct batch_header *h) {
    return batch_last_offset(h) + 1;
}
/* Sequence numbers wrap from INT32_MAX to 0. */
int32_t batch_last_sequence(const struct batch_header *h);

/* Patches a batch in place; these two fields lie outside the checksum. */
void batch_set_position(uint8_t *data, int64_t base_offset, int32_t partition_leader_epoch);
/* Sets attributes and max timestamp (log append time, say) and the checksum to match. The payload is not read: the old
 * checksum is carried over, so that a batch damaged after it was checked stays recognisable. `data` must hold a batch
 * that batch_parse_unchecked accepts. */
void batch_set_attributes(uint8_t *data, int16_t attributes, int64_t max_timestamp);

/* One record; key, value and headers are borrowed from the batch or from the iterator's decompressed copy. */
struct batch_record {
    int64_t offset;
    int64_t timestamp; /* the batch's max timestamp for log append time */
    int32_t offset_delta;
    int8_t attributes;
    const uint8_t *key;
    int32_t key_size; /* -1: null */
    const uint8_t *value;
    int32_t value_size; /* -1: null */
    int32_t header_count;
    const uint8_t *headers; /* encoded; see batch_header_next */
    size_t headers_size;
};

struct batch_iterator {
    const struct batch_header *header; /* borrowed */
    struct buf unpacked;               /* owned; empty for uncompressed batches */
    const uint8_t *at, *end;
    int32_t left; /* records not yet returned */
};

/* Opens a batch for iteration; decompresses it when it is compressed, to at most `limit` bytes. `h` and its bytes stay
 * borrowed. ERR_TOO_LARGE past the limit, ERR_CORRUPT_MESSAGE for bytes that do not decompress. Deinit only after OK.
 */
enum err batch_iterator_init(struct batch_iterator *it, struct mem *m, const struct batch_header *h,
                             size_t limit) WARN_UNUSED;
void batch_iterator_deinit(struct batch_iterator *it);
/* The next record, all its lengths checked, headers included. ERR_NOT_FOUND after the last one; ERR_INVALID_RECORD when
 * a record is malformed or bytes are left over behind the last. */
enum err batch_iterator_next(struct batch_iterator *it, struct batch_record *r) WARN_UNUSED;

struct batch_record_header {
    const char *key;
    int32_t key_size; /* >= 0 */
    const uint8_t *value;
    int32_t value_size; /* -1: null */
};
/* Walks the headers of a record that batch_iterator_next returned: start with *position = 0; false after the last. */
bool batch_header_next(const struct batch_record *r, size_t *position, struct batch_record_header *out);

#define BATCH_CHECK_KEYS 1u          /* a record with a null key is refused: compacted topics */
#define BATCH_CHECK_MAX_TIMESTAMP 2u /* the header must name the largest timestamp of its records */

struct batch_check {
    int64_t max_timestamp;       /* the largest of the records' timestamps; BATCH_NO_TIMESTAMP without records */
    int32_t max_timestamp_delta; /* offset delta of the first record with it */
    int64_t min_timestamp;       /* the smallest */
    int32_t bad_record;          /* index of the record at fault, -1 when it is the batch as a whole; valid on errors */
};

/* Checks what a client produced, record by record, by Kafka's rules for Produce: count > 0 and equal to last offset
 * delta + 1, offset deltas 0, 1, 2, ..., all lengths, nothing left over. `flags` are BATCH_CHECK_*. *check is always
 * filled. ERR_INVALID_RECORD, or what batch_iterator_init returns. Uncompressed batches cost no memory. */
enum err batch_validate_records(const struct batch_header *h, struct mem *m, size_t limit, unsigned flags,
                                struct batch_check *check) WARN_UNUSED;

/* First record at or after `timestamp` (as ListOffsets wants it): its offset and timestamp. ERR_NOT_FOUND when there is
 * none. */
enum err batch_find_timestamp(const struct batch_header *h, struct mem *m, size_t limit, int64_t timestamp,
                              int64_t *offset, int64_t *found) WARN_UNUSED;

/* Makes batches: for the CLI, the simulator and tests. */
struct batch_options {
    int64_t base_offset;
    int32_t partition_leader_epoch;
    enum kafka_codec codec;
    int32_t level;          /* COMPRESS_LEVEL_DEFAULT, or the codec's */
    int16_t attributes;     /* flags above the codec: BATCH_TRANSACTIONAL, ... */
    int64_t producer_id;    /* BATCH_NO_PRODUCER for none */
    int16_t producer_epoch; /* -1 for none */
    int32_t base_sequence;  /* -1 for none */
};
/* No compression, no producer, offset 0. */
#define BATCH_OPTIONS_DEFAULT                                                                                          \
    ((struct batch_options){.partition_leader_epoch = -1,                                                              \
                            .level = COMPRESS_LEVEL_DEFAULT,                                                           \
                            .producer_id = -1,                                                                         \
                            .producer_epoch = -1,                                                                      \
                            .base_sequence = -1})

struct batch_builder {
    struct batch_options options;
    struct buf records; /* owned; uncompressed */
    int64_t base_timestamp, max_timestamp;
    int32_t count;
};
void batch_builder_init(struct batch_builder *b, struct mem *m, const struct batch_options *options);
void batch_builder_deinit(struct batch_builder *b);
/* key or value NULL: null. The record gets the next offset. Sizes below 2^30. */
void batch_builder_add(struct batch_builder *b, int64_t timestamp, const void *key, size_t key_size, const void *value,
                       size_t value_size, const struct batch_record_header *headers, size_t header_count);
/* Appends the batch's bytes to *out and empties the builder for the next batch, whose base offset and sequence follow
 * on. ERR_INVALID without records; errors of kafka_compress. */
enum err batch_builder_finish(struct batch_builder *b, struct buf *out) WARN_UNUSED;

#endif

/* Message sets: the formats before record batches (magic 0 and 1), which clients from before 0.11 write and read. They
 * are never stored: what comes in becomes one batch of magic 2 (kafka/batch.h), what goes out is made from batches.
 *
 * A set is messages one behind the other, big-endian:
 *
 *    0  offset       int64   of the log; what producers put here is ignored
 *    8  size         int32   bytes behind this field
 *   12  crc          uint32  CRC-32 (that of zlib) of everything from 16 to the end
 *   16  magic        int8    0 or 1
 *   17  attributes   int8    0-2 codec; magic 1: 3 log append time
 *   18  timestamp    int64   magic 1 only; -1: none
 *       key          int32   length (-1 null) and bytes
 *       value        int32   length (-1 null) and bytes
 *
 * A message with a codec is a wrapper: its value unfolds to a set of messages of the same magic, without a codec. Its
 * offset is that of the last message in it; offsets inside are absolute in magic 0, and in magic 1 counted from the
 * first one. Magic 1 wrappers carry the largest timestamp, or the log append time, which then holds for all inside.
 *
 * Nothing in a set is believed before it was checked. Pure functions: callable on any thread. */
#ifndef OXBOW_KAFKA_MESSAGE_SET_H
#define OXBOW_KAFKA_MESSAGE_SET_H

#include "kafka/batch.h"

/* What can be said of a set without unfolding it; borrows the bytes. */
struct message_set {
    const uint8_t *data;
    size_t size;   /* of whole messages: a part of one at the end is not counted, as with Kafka */
    int32_t count; /* messages at the top; 0: none, and the rest says nothing */
    int8_t magic;  /* 2: not a set, but a record batch, of which nothing was looked at */
    enum kafka_codec codec;
};
/* Checks every message at the top: length, magic, checksum. ERR_CORRUPT_MESSAGE; ERR_MESSAGE_TOO_LARGE: one is larger
 * than `message_max` bytes; ERR_INVALID_RECORD: several magics, or more than a wrapper; ERR_UNSUPPORTED_COMPRESSION:
 * zstd; ERR_INVALID_TIMESTAMP: a client says log append time. *why then points to a literal. */
enum err message_set_parse(const uint8_t *data, size_t size, size_t message_max, struct message_set *set,
                           const char **why) WARN_UNUSED;

struct message_set_up {
    enum kafka_codec codec; /* of the batch */
    int32_t level;
    size_t unpack_limit; /* what a wrapper may unfold to */
    size_t batch_max;    /* ERR_MESSAGE_TOO_LARGE above, as early as it is known */
    bool need_keys;
};
/* Appends to *out one batch of magic 2 with the messages of a parsed set (count > 0, magic 0 or 1), offsets from 0 on,
 * no producer, no headers; messages of magic 0 get BATCH_NO_TIMESTAMP. check is filled as batch_validate_records does.
 * ERR_CORRUPT_MESSAGE, ERR_INVALID_RECORD, ERR_MESSAGE_TOO_LARGE, ERR_TOO_LARGE (past the unpack limit); *why as above.
 * On an error *out has the size it had before. */
enum err message_set_up_convert(const struct message_set *set, struct mem *m, const struct message_set_up *how,
                                struct buf *out, struct batch_check *check, const char **why) WARN_UNUSED;

struct message_set_down {
    int8_t magic;        /* 0 or 1 */
    int64_t from_offset; /* records below are left out where that costs nothing */
    size_t max_bytes;    /* of *out altogether; conversion ends where the next message would pass it */
    bool whole_first;    /* but the first message may pass it, */
    bool cut_first;      /* or comes in part, which tells the reader that it asks for too little */
    size_t unpack_limit;
};
/* Appends the records of the batches in data[0..size) (whole ones, which were checked when they came in) to *out, which
 * holds nothing but the set. Codecs are kept; a wrapper never unfolds to more than about a MiB or max_bytes unless one record does. Headers,
 * control batches and, for magic 0, timestamps are dropped. *full: the limit was reached. ERR_UNSUPPORTED_COMPRESSION:
 * the set is empty and the first batch is of zstd, which the old formats do not have; behind other messages it sets
 * *full. ERR_TOO_LARGE past the unpack limit, ERR_CORRUPT_MESSAGE or ERR_INVALID_RECORD for damaged batches. */
enum err message_set_down_convert(const uint8_t *data, size_t size, struct mem *m, const struct message_set_down *how,
                                  struct buf *out, bool *full) WARN_UNUSED;

#endif

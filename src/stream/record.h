/* The bytes of the write-ahead log: records, and the groups they are written in.
 *
 * A *record* is a batch or a trim of one stream; header of RECORD_HEADER_SIZE bytes (little-endian), payload, zero
 * bytes up to a multiple of 8:
 *    0 u32 payload size                12 i32 partition epoch      32 u64 end offset
 *    4 u32 crc32c                      16 u64 stream               40 i64 max timestamp
 *    8 u8 type, u8 flags, u16 zero     24 u64 base offset
 * The checksum runs over incarnation (u64), block id (u64), header bytes 8..47 and the payload: a record of another
 * incarnation, or left behind by an earlier group at the same place, does not verify.
 *
 * A *group* is what one write carries: a header of GROUP_HEADER_SIZE bytes, then records, then padding to
 * ENV_FILE_ALIGN:
 *    0 u32 magic "OXWG"                24 u64 block id                   40 u64 trim position when written
 *    4 u16 version, u16 kind           32 u32 size without padding       48 u64 confirmed position when written
 *    8 u64 incarnation                 36 u32 record count               56 u32 zero
 *   16 u64 logical position                                              60 u32 crc32c of bytes 0..59
 * Kind 1 holds records; kind 2 is a pad: the ring continues at its beginning. A group that verifies follows its
 * predecessor without a gap in logical position. Of a torn group, the records before the first that does not verify
 * are whole, and none of them was acknowledged. */
#ifndef OXBOW_STREAM_RECORD_H
#define OXBOW_STREAM_RECORD_H

#include "base/bytes.h"
#include "base/err.h"
#include "stream/stream.h"

#define RECORD_HEADER_SIZE 48u
#define GROUP_HEADER_SIZE 64u
#define GROUP_MAGIC 0x4757584fu /* "OXWG" */
#define GROUP_VERSION 1u /* every version has magic, version, incarnation, position and checksum where they are now */

enum group_kind { GROUP_RECORDS = 1, GROUP_PAD = 2 };

struct record_header {
    uint32_t payload_size;
    enum stream_record_type type;
    unsigned flags;
    int32_t epoch;
    struct stream_id stream;
    uint64_t base_offset, end_offset;
    int64_t max_timestamp;
};
struct group_header {
    enum group_kind kind;
    struct incarnation incarnation;
    uint64_t position;
    uint64_t block_id; /* lane << 48 | sequence of the lane, from 1 */
    uint32_t size, record_count;
    uint64_t trim_position;
    uint64_t confirmed_position; /* everything below it was confirmed when this group was written */
};

static inline size_t record_size(size_t payload_size) {
    return (RECORD_HEADER_SIZE + payload_size + 7) & ~(size_t)7;
}
/* Writes the header; the payload (payload_crc = crc32c(0, payload)) follows it already or soon. */
void record_encode(uint8_t out[RECORD_HEADER_SIZE], const struct record_header *h, uint32_t payload_crc,
                   struct incarnation incarnation, uint64_t block_id);
/* Checks and reads the record at data; *payload points into data. ERR_TRUNCATED, ERR_CORRUPT. */
enum err record_decode(const uint8_t *data, size_t size, struct incarnation incarnation, uint64_t block_id,
                       struct record_header *out, const uint8_t **payload) WARN_UNUSED;
/* The same without the checksum, for memory we wrote ourselves. */
void record_peek(const uint8_t *data, struct record_header *out, const uint8_t **payload);
void group_encode(uint8_t out[GROUP_HEADER_SIZE], const struct group_header *g);
/* ERR_FOREIGN: no group here. ERR_VERSION: incarnation and position are set all the same. ERR_CORRUPT, ERR_TRUNCATED. */
enum err group_decode(const uint8_t *data, size_t size, struct group_header *out) WARN_UNUSED;

#endif

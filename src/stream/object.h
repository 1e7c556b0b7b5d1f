/* What lies in objects: the head of a ledger entry, stream sections, data objects. All little-endian.
 *
 * Ledger entry (an object log entry, objlog/objlog.h). Head:
 *    u16 version = 1, u16 zero, u32 section count, u32 state count, u32 zero, 16 bytes WAL id, u8 closed, 7 zero bytes
 *    version 2, of a broker with a mirrored WAL: the WAL id is that of its first member, or zero; behind the zero bytes follow
 *       u64 membership version, u32 member count (0..WAL_MEMBERS_MAX), u32 zero, and 16 bytes WAL id for each member
 *    sections: u64 stream, i32 partition epoch, u32 kind, u32 size, then `size` bytes: a state as state_encode writes it
 *       kind 1, appended: the delta of the section's batches, with its range
 *       kind 2, ranges replaced: a delta with nothing but the new range, or new ranges that together replace others
 *       kind 3, cleaned: how far log compaction has come: a delta with its offset, and with the roll points that are left
 *    states (checkpoints only): u64 stream, i32 epoch, u32 size, u32 crc32c, u32 flags (1: refused), u64 entry number,
 *       u64 position: where the partition's whole state lies, in this ledger's entry of that number (checkpoints hold
 *       what changed; the rest stays where it was)
 *    An own entry is named by the number UINT64_MAX: the number is not known when it is written; positions in it are
 *    relative to the body.
 * Body of a data entry (a *stream set object*): the sections' pieces one after the other. Body of a checkpoint: encoded
 * states one after the other.
 *
 * Piece (what a state_range points to): block index, then blocks.
 *    index: per block 40 bytes: u64 first offset, u64 end offset, i64 max timestamp, u64 position in the piece,
 *       u32 size, u32 crc32c of the block; then u32 crc32c of the index, u32 zero
 *    block: record batches v2, one after the other, by rising offsets. Blocks are contiguous; their batches need not be:
 *       what log compaction removed is missing, at the front of a block too. The last batch ends where its block does.
 *
 * Data object: 64 bytes of header: magic "OXDT", u16 version = 2, u16 zero, u64 creator, u64 number, u64 stream, u64
 *    size of what follows, zero, u32 crc32c of bytes 0..59 at 60; then pieces, one after the other. stream: whose they
 *    are (a *stream object*), or 0: of several, by their ids, but compaction has those in front that it will merge again
 *    (a *stream set object*, too large for an entry's body). Version 1 is the same with one piece, and stream is never 0. */
#ifndef OXBOW_STREAM_OBJECT_H
#define OXBOW_STREAM_OBJECT_H

#include "objlog/objlog.h"
#include "stream/record.h"
#include "stream/sizes.h"
#include "stream/state.h"

#define OBJECT_THIS_ENTRY UINT64_MAX
#define OBJECT_BLOCK_ENTRY 40u
#define OBJECT_DATA_HEADER 64u
#define OBJECT_KEY_MAX 160u

/* "<generation>/ledger/<creator, 16 hex digits>" */
void object_ledger_prefix(char out[OBJECT_KEY_MAX], const char *generation, struct incarnation creator);
/* "<ledger prefix>/<number, 20 digits>" or "<generation>/data/<creator, 16 hex digits>/<number, 20 digits>" */
void object_key(char out[OBJECT_KEY_MAX], const char *generation, struct object_id id);
/* The reverse; false if the key is neither. */
bool object_key_parse(const char *key, const char *generation, struct object_id *out);

struct object_block {
    uint64_t first_offset, end_offset;
    int64_t max_timestamp;
    uint64_t position; /* in the piece */
    uint32_t size, crc;
};
static inline size_t object_index_size(uint32_t block_count) {
    return (size_t)block_count * OBJECT_BLOCK_ENTRY + 8;
}
/* Checks the checksum, and that offsets and positions are in order and within the piece. blocks: room for
 * block_count. */
enum err object_index_decode(const uint8_t *data, size_t size, uint32_t block_count, uint64_t piece_size,
                             struct object_block *blocks) WARN_UNUSED;

/* out: object_index_size(block_count) bytes. Positions are those in the piece, the index in front of them. */
void object_index_encode(const struct object_block *blocks, uint32_t block_count, uint8_t *out);

/* Makes a piece from batches in offset order, without copying them. */
struct object_piece {
    struct mem *mem;
    struct object_block *blocks;
    size_t block_count, block_capacity;
    struct slices parts; /* the batches; borrowed memory or references, as given */
    bool begun;          /* first_offset is known */
    uint64_t first_offset, end_offset, data_size;
    int64_t max_timestamp;
    struct slab *staging; /* small batches are copied together: fewer pieces to gather */
    size_t staging_used;
    uint8_t *index; /* encoded by finish */
    size_t index_size;
};
void object_piece_init(struct object_piece *p, struct mem *m);
void object_piece_deinit(struct object_piece *p);
/* Whether a batch of that size is copied, together with its neighbours; a larger one is referred to. */
bool object_piece_copies(size_t size);
/* Of an empty piece: it begins here, also if its first batch begins later. */
void object_piece_begin(struct object_piece *p, uint64_t first_offset);
/* Adds one batch (behind the one before; what lies between is missing). Takes the slice's reference. */
void object_piece_add(struct object_piece *p, struct slice batch, uint64_t base_offset, uint64_t end_offset,
                      int64_t max_timestamp);
/* Adds a block as it was read from another piece, its checksum known to be right: `from` describes it, its position is
 * not looked at. Small ones are joined. Takes the slice's reference. */
void object_piece_add_block(struct object_piece *p, struct slice block, const struct object_block *from);
/* Encodes the index; returns the piece's size. Then `index` (index_size bytes) and `parts` are its bytes, in that
 * order; crc over them all. */
uint64_t object_piece_finish(struct object_piece *p, uint32_t *crc);
/* stream: zero if the pieces are of several. */
void object_data_header(uint8_t out[OBJECT_DATA_HEADER], struct object_id id, struct stream_id stream,
                        uint64_t body_size);
enum err object_data_header_decode(const uint8_t *data, size_t size, struct object_id *id, struct stream_id *stream,
                                   uint64_t *body_size) WARN_UNUSED;

/* A batch's header as the state sees it; the batch was checked when it came in. ERR_CORRUPT_MESSAGE if it is no
 * batch. */
enum err object_batch_view(const struct record_header *h, const uint8_t *payload, struct state_batch *out) WARN_UNUSED;

enum object_section_kind { OBJECT_APPENDED = 1, OBJECT_REPLACED = 2, OBJECT_CLEANED = 3 };
struct object_section {
    struct stream_id stream;
    int32_t epoch;
    enum object_section_kind kind;
    const uint8_t *delta;
    uint32_t delta_size;
};
struct object_state_pointer {
    struct stream_id stream;
    int32_t epoch;
    uint32_t size, crc;
    bool refused;             /* a gap was found: kept, not served */
    uint64_t entry, position; /* absolute position in that entry's object */
};
struct object_head {
    uint32_t section_count, state_count;
    uint8_t wal_id[16];
    bool closed;                   /* the writer stopped in order: nothing of it is in a WAL */
    struct wal_membership members; /* of a mirrored WAL; else none */
};
/* Starts a head; sections, then state pointers follow, in this order, as counted. */
void object_head_begin(struct buf *out, const struct object_head *h);
void object_head_section(struct buf *out, struct stream_id stream, int32_t epoch, enum object_section_kind kind,
                         const struct stream_state *delta);
void object_head_state(struct buf *out, const struct object_state_pointer *p);
enum err object_head_decode(struct reader *r, struct object_head *out) WARN_UNUSED;
enum err object_section_decode(struct reader *r, struct object_section *out) WARN_UNUSED;
enum err object_state_decode(struct reader *r, struct object_state_pointer *out) WARN_UNUSED;

#endif

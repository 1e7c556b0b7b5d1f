/* The bytes of an object log.
 *
 * A log is the set of objects "<prefix>/<number>", the number as 20 decimal digits, so that byte order is numeric
 * order. One object is one entry:
 *
 *   position  size       what
 *          0  128        header
 *        128  head size  head: small; what a reader that walks the log needs; head crc covers all of it
 *        ...  body size  body: may be large; read by range, by parts that have checksums of their own; body crc covers
 *                        all of it
 *
 * and the object ends there. The header, little-endian:
 *
 *   position  size  what
 *          0     4  magic "OXLG"
 *          4     2  version, 1
 *          6     2  kind: 1 data, 2 checkpoint, 3 fence, 4 election
 *          8     8  number; the same as in the key
 *         16    16  nonce: random, this entry's own, never zero
 *         32    16  the predecessor's nonce; zero for number 0, and for a fence made ahead of its place (below)
 *         48     8  boundary: the newest checkpoint in the contiguous prefix when the entry was first sent; 0: none
 *         56     8  writer
 *         64     8  head size
 *         72     8  body size
 *         80     4  crc32c of the head
 *         84     4  crc32c of the body
 *         88    36  zero
 *        124     4  crc32c of bytes 0..123
 *
 * Every later version keeps magic, version, the size of the header and the place of its checksum: so an entry of a
 * newer version is told from a damaged one (the checksum is looked at first), and a damaged one from something that was
 * never an entry (the magic).
 *
 * An entry is valid if the header's checksum holds, its number is the key's, number 0 has no predecessor, its boundary
 * is below its number (or zero), and the head's checksum holds.
 *
 * The log is: the highest boundary among the entries, and from there on numbers without a hole, each naming its
 * predecessor's nonce, up to the first hole or the first fence. What lies below the boundary is garbage that has not
 * been deleted yet, or a fence or an election of the past, kept to stop whoever still believes to be there. What lies
 * behind the first hole was never acknowledged.
 *
 * A fencer that loses race after race puts a fence 64 numbers ahead of the hole it saw: no writer can have been
 * further, for a writer has at most 64 numbers beyond its contiguous prefix. Such a fence cannot know its predecessor
 * and names none. It ends the log all the same if the writer reaches it. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "objlog/objlog_priv.h"

#define VERSION 1u
static_assert(VERSION == FORMAT_LOG_ENTRY_NEWEST, "one table has them all");
static_assert((unsigned)OBJLOG_ELECTION == FORMAT_LOG_ENTRY_KIND_NEWEST, "one table has them all");
#define CRC_POSITION 124u
#define RESERVED_POSITION 88u
/* Sizes above these are damage, whatever the checksum says; they keep sums from overflowing. */
#define HEAD_SIZE_MAX (1ull << 40)
#define BODY_SIZE_MAX (1ull << 48)

static const uint8_t magic[4] = {'O', 'X', 'L', 'G'};

static_assert(CRC_POSITION + 4 == OBJLOG_HEADER_SIZE, "the checksum ends the header");
static_assert(sizeof(struct objlog_nonce) == 16, "a nonce is 16 bytes");

bool objlog_nonce_equal(const struct objlog_nonce *a, const struct objlog_nonce *b) {
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool objlog_nonce_is_zero(const struct objlog_nonce *n) {
    static const struct objlog_nonce zero;
    return objlog_nonce_equal(n, &zero);
}

/* What every header obeys beside its checksum: asserted when we write it, checked when we read it. */
static bool header_sound(const struct objlog_header *h) {
    if (h->kind < OBJLOG_DATA || h->kind > OBJLOG_ELECTION) return false;
    if (h->boundary != 0 && h->boundary >= h->number) return false;
    if (h->number == 0 && !objlog_nonce_is_zero(&h->previous)) return false;
    if (objlog_nonce_is_zero(&h->nonce)) return false;
    return h->head_size <= HEAD_SIZE_MAX && h->body_size <= BODY_SIZE_MAX;
}

void objlog_header_encode(const struct objlog_header *h, uint8_t out[OBJLOG_HEADER_SIZE]) {
    ASSERT(header_sound(h));
    memset(out, 0, OBJLOG_HEADER_SIZE);
    memcpy(out, magic, sizeof(magic));
    le16_put(out + 4, VERSION);
    le16_put(out + 6, (uint16_t)h->kind);
    le64_put(out + 8, h->number);
    memcpy(out + 16, h->nonce.bytes, 16);
    memcpy(out + 32, h->previous.bytes, 16);
    le64_put(out + 48, h->boundary);
    le64_put(out + 56, h->writer);
    le64_put(out + 64, h->head_size);
    le64_put(out + 72, h->body_size);
    le32_put(out + 80, h->head_crc);
    le32_put(out + 84, h->body_crc);
    le32_put(out + CRC_POSITION, crc32c(0, out, CRC_POSITION));
}

enum err objlog_header_decode(const uint8_t *data, size_t size, struct objlog_header *out) {
    size_t shown = size < sizeof(magic) ? size : sizeof(magic);
    if (shown > 0 && memcmp(data, magic, shown) != 0) return ERR_FOREIGN;
    if (size < OBJLOG_HEADER_SIZE) return ERR_TRUNCATED;
    if (le32_get(data + CRC_POSITION) != crc32c(0, data, CRC_POSITION)) return ERR_CORRUPT;
    uint16_t version = le16_get(data + 4);
    if (version > VERSION || le16_get(data + 6) > OBJLOG_ELECTION) return ERR_VERSION;
    if (version != VERSION) return ERR_CORRUPT;
    for (size_t i = RESERVED_POSITION; i < CRC_POSITION; i++) {
        if (data[i] != 0) return ERR_CORRUPT;
    }
    *out = (struct objlog_header){
        .kind = (enum objlog_kind)le16_get(data + 6),
        .number = le64_get(data + 8),
        .boundary = le64_get(data + 48),
        .writer = le64_get(data + 56),
        .head_size = le64_get(data + 64),
        .body_size = le64_get(data + 72),
        .head_crc = le32_get(data + 80),
        .body_crc = le32_get(data + 84),
    };
    memcpy(out->nonce.bytes, data + 16, 16);
    memcpy(out->previous.bytes, data + 32, 16);
    return header_sound(out) ? OK : ERR_CORRUPT;
}

void objlog_key(char *out, size_t out_size, const char *prefix, uint64_t number) {
    int n = snprintf(out, out_size, "%s/%020" PRIu64, prefix, number);
    ASSERT(n > 0 && (size_t)n < out_size);
}

bool objlog_key_parse(const char *prefix, const char *key, uint64_t *number) {
    size_t prefix_size = strlen(prefix);
    if (strncmp(key, prefix, prefix_size) != 0 || key[prefix_size] != '/') return false;
    const char *digits = key + prefix_size + 1;
    if (strlen(digits) != 20) return false;
    uint64_t v = 0;
    for (int i = 0; i < 20; i++) {
        if (digits[i] < '0' || digits[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(digits[i] - '0'), &v))
            return false;
    }
    *number = v;
    return true;
}

/* Who may begin a ring anew, where several machines reach it and none of them can be shut out: who has claimed what its
 * superblock says. A start may stand still just before it formats a ring, for as long as it likes; meanwhile another
 * start may have formatted it and acknowledged records in it. Nothing in the ring itself can prevent that. So each WAL
 * id is given up once: the claim is an object that is created conditionally, under a key made of the id that is to be
 * replaced, and stays for ever. Who finds it taken leaves the ring alone.
 *
 * Claim (docs/formats.md), 64 bytes, little-endian: magic "OXWCLAIM", version, 4 zero bytes, the WAL id that is given up,
 * the id that replaces it, the claimant's incarnation, 4 zero bytes, crc32c of all before it. */
#ifndef OXBOW_STREAM_WAL_CLAIM_H
#define OXBOW_STREAM_WAL_CLAIM_H

#include "store/store.h"
#include "stream/ids.h"

#define WAL_CLAIM_SIZE 64u

struct wal_claim {
    uint8_t wal_id[16], next_id[16];
    struct incarnation claimant;
};
void wal_claim_encode(const struct wal_claim *c, uint8_t out[WAL_CLAIM_SIZE]);
/* ERR_FOREIGN, ERR_VERSION, ERR_CORRUPT, ERR_TRUNCATED. */
enum err wal_claim_decode(const uint8_t *data, size_t size, struct wal_claim *out) WARN_UNUSED;
/* "<generation>/wal/<wal_id, 32 hexadecimal digits>" */
void wal_claim_key(char *out, size_t out_size, const char *generation, const uint8_t wal_id[16]);

/* OK: ours, for ever. ERR_EXISTS: another's. Repeats while the outcome is not known, until *stop (ERR_CANCELLED).
 * Suspends. */
enum err wal_claim_take(struct store *s, const char *generation, const struct wal_claim *c,
                        const bool *stop) WARN_UNUSED;

#endif

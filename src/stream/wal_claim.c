#include "stream/wal_claim.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "stream/object.h"

#define CLAIM_MAGIC "OXWCLAIM"
#define CLAIM_VERSION 1u
static_assert(CLAIM_VERSION == FORMAT_WAL_CLAIM_NEWEST, "one table has them all");
#define CRC_POSITION (WAL_CLAIM_SIZE - 4)

void wal_claim_encode(const struct wal_claim *c, uint8_t out[WAL_CLAIM_SIZE]) {
    memset(out, 0, WAL_CLAIM_SIZE);
    memcpy(out, CLAIM_MAGIC, 8);
    le32_put(out + 8, CLAIM_VERSION);
    memcpy(out + 16, c->wal_id, 16);
    memcpy(out + 32, c->next_id, 16);
    le64_put(out + 48, c->claimant.v);
    le32_put(out + CRC_POSITION, crc32c(0, out, CRC_POSITION));
}

enum err wal_claim_decode(const uint8_t *data, size_t size, struct wal_claim *out) {
    if (size < WAL_CLAIM_SIZE) return ERR_TRUNCATED;
    if (memcmp(data, CLAIM_MAGIC, 8) != 0) return ERR_FOREIGN;
    if (le32_get(data + CRC_POSITION) != crc32c(0, data, CRC_POSITION)) return ERR_CORRUPT;
    if (le32_get(data + 8) != CLAIM_VERSION) return ERR_VERSION;
    if (size != WAL_CLAIM_SIZE) return ERR_CORRUPT;
    memcpy(out->wal_id, data + 16, 16);
    memcpy(out->next_id, data + 32, 16);
    out->claimant.v = le64_get(data + 48);
    return OK;
}

void wal_claim_key(char *out, size_t out_size, const char *generation, const uint8_t wal_id[16]) {
    int n = snprintf(out, out_size, "%s/wal/", generation);
    for (unsigned i = 0; i < 16; i++) n += snprintf(out + n, out_size - (size_t)n, "%02x", wal_id[i]);
    ASSERT((size_t)n < out_size);
}

/* What lies there: OK: what we put, from an attempt whose answer was lost. */
static enum err owner_find(struct store *s, const char *key, const uint8_t mine[WAL_CLAIM_SIZE]) {
    struct slice there;
    enum err e = store_get(s, key, 0, WAL_CLAIM_SIZE, STORE_FOR_LEDGER, &there);
    if (e == OK) {
        e = there.size == WAL_CLAIM_SIZE && memcmp(there.data, mine, WAL_CLAIM_SIZE) == 0 ? OK : ERR_EXISTS;
        slice_unref(&there);
    }
    return e;
}

enum err wal_claim_take(struct store *s, const char *generation, const struct wal_claim *c, const bool *stop) {
    char key[OBJECT_KEY_MAX];
    uint8_t bytes[WAL_CLAIM_SIZE];
    wal_claim_key(key, sizeof(key), generation, c->wal_id);
    wal_claim_encode(c, bytes);
    struct slice data = slice_borrow(bytes, sizeof(bytes));
    for (unsigned failures = 0; !*stop;) {
        enum err e = store_put(s, key, &data, 1, true, STORE_FOR_LEDGER);
        if (e == ERR_EXISTS) e = owner_find(s, key, bytes);
        if (e == OK || e == ERR_EXISTS) return e;
        if (failures++ == 0)
            log_warn(s->env->log, "object store does not take the claim of a WAL; repeating", "error=%s key=%s",
                     err_name(e), key);
        env_backoff(s->env, failures < 8 ? failures : 8, 50 * NS_PER_MS, 5 * NS_PER_S);
    }
    return ERR_CANCELLED;
}

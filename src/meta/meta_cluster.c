/* The object that names the cluster: "oxbow.cluster", created once and never changed. All other keys of the cluster
 * begin with the generation that it holds, so that nothing left over from an earlier cluster in the same bucket can be
 * taken for ours.
 *
 *   position  size  what
 *          0     4  magic "OXCL"
 *          4     2  version, 1 (little-endian)
 *          6     2  zero
 *          8    26  generation: 130 random bits in [a-z2-7]
 *         34     2  zero
 *         36    16  cluster id, a uuid; clients see it as 22 characters
 *         52     4  crc32c of bytes 0..51
 *
 * In every version the magic comes first and the last four bytes are the checksum of all before them: so a newer
 * version is told from a damaged one. */
#include "meta/meta_cluster.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "meta/meta_priv.h"

#define CLUSTER_VERSION 1u
static_assert(CLUSTER_VERSION == FORMAT_CLUSTER_OBJECT_NEWEST, "one table has them all");
#define CRC_POSITION 52u
#define BACKOFF_BASE_NS (50 * NS_PER_MS)
#define BACKOFF_CAP_NS (5 * NS_PER_S)
/* A failing device, as opposed to a store that is not there now, is reported after this many attempts. */
#define IO_ATTEMPTS_MAX 10u

static const uint8_t magic[4] = {'O', 'X', 'C', 'L'};
static const char alphabet[33] = "abcdefghijklmnopqrstuvwxyz234567";

static bool generation_valid(const uint8_t *text) {
    for (size_t i = 0; i < META_GENERATION_SIZE; i++) {
        if (text[i] == 0 || !memchr(alphabet, text[i], 32)) return false;
    }
    return true;
}

void meta_cluster_encode(const char generation[META_GENERATION_SIZE], const struct uuid *id,
                         uint8_t out[META_CLUSTER_SIZE]) {
    memset(out, 0, META_CLUSTER_SIZE);
    memcpy(out, magic, sizeof(magic));
    le16_put(out + 4, CLUSTER_VERSION);
    memcpy(out + 8, generation, META_GENERATION_SIZE);
    memcpy(out + 36, id->bytes, sizeof(id->bytes));
    le32_put(out + CRC_POSITION, crc32c(0, out, CRC_POSITION));
    ASSERT(generation_valid(out + 8));
}

enum err meta_cluster_decode(const uint8_t *data, size_t size, char generation[META_GENERATION_SIZE + 1],
                             struct uuid *id) {
    size_t shown = size < sizeof(magic) ? size : sizeof(magic);
    if (shown > 0 && memcmp(data, magic, shown) != 0) return ERR_FOREIGN;
    if (size < 12) return ERR_TRUNCATED;
    if (le32_get(data + size - 4) != crc32c(0, data, size - 4)) return ERR_CORRUPT;
    if (le16_get(data + 4) > CLUSTER_VERSION) return ERR_VERSION;
    if (size != META_CLUSTER_SIZE || le16_get(data + 4) != CLUSTER_VERSION || !generation_valid(data + 8))
        return ERR_CORRUPT;
    memcpy(generation, data + 8, META_GENERATION_SIZE);
    generation[META_GENERATION_SIZE] = '\0';
    memcpy(id->bytes, data + 36, sizeof(id->bytes));
    return OK;
}

static void generation_draw(struct env *env, char out[META_GENERATION_SIZE]) {
    uint8_t random[META_GENERATION_SIZE];
    env_random(env, random, sizeof(random));
    for (size_t i = 0; i < META_GENERATION_SIZE; i++) out[i] = alphabet[random[i] & 31];
}

/* After a failed request: true when it is worth repeating, having waited. */
static bool again(struct meta *m, enum err e, unsigned *attempt) {
    if (err_class(e) == ERR_CLASS_FATAL || (e == ERR_IO && *attempt >= IO_ATTEMPTS_MAX)) return false;
    if (*attempt == 0) {
        log_warn(m->env->log, "object store does not answer, repeating", "key=%s error=%s reason=\"%s\"",
                 META_CLUSTER_KEY, err_name(e), err_text(e));
    }
    *attempt += 1;
    env_backoff(m->env, *attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    return true;
}

/* ERR_NOT_FOUND: there is no cluster yet. */
static enum err cluster_read(struct meta *m, struct uuid *id) {
    struct slice s = {0};
    unsigned attempt = 0;
    enum err e;
    do {
        e = store_get(m->store, META_CLUSTER_KEY, 0, 4096, STORE_FOR_CLUSTER_LOG, &s);
    } while (e != OK && e != ERR_NOT_FOUND && again(m, e, &attempt));
    if (e == OK) {
        e = meta_cluster_decode(s.data, s.size, m->generation, id);
        if (e == ERR_VERSION)
            format_newer(m->env->log, FORMAT_CLUSTER_OBJECT, format_found(FORMAT_CLUSTER_OBJECT, s.data, s.size),
                         "key=" META_CLUSTER_KEY);
    }
    slice_unref(&s);
    return e;
}

/* OK and ERR_EXISTS alike: now there is one, and what it says is to be read. The same bytes are sent until the answer
 * is clear. */
static enum err cluster_create(struct meta *m) {
    char generation[META_GENERATION_SIZE];
    struct uuid id;
    uint8_t bytes[META_CLUSTER_SIZE];
    generation_draw(m->env, generation);
    uuid_draw(m->env, &id);
    meta_cluster_encode(generation, &id, bytes);
    struct slice data = slice_borrow(bytes, sizeof(bytes));
    unsigned attempt = 0;
    enum err e;
    do {
        e = store_put(m->store, META_CLUSTER_KEY, &data, 1, true, STORE_FOR_CLUSTER_LOG);
    } while (e != OK && e != ERR_EXISTS && again(m, e, &attempt));
    return e == ERR_EXISTS ? OK : e;
}

static const char *sentence(enum err e) {
    switch (e) {
    case ERR_FOREIGN:
        return "the object \"" META_CLUSTER_KEY
               "\" was not written by Oxbow: this store is used for something else; choose an empty folder or bucket";
    case ERR_VERSION:
        return "the object \"" META_CLUSTER_KEY
               "\" was written by a newer version of Oxbow (the line above has the versions): run that version or a later one on "
               "this store";
    case ERR_CORRUPT:
    case ERR_TRUNCATED:
        return "the object \"" META_CLUSTER_KEY
               "\" is damaged (checksum or length): restore it from a copy of the store; nothing was changed";
    case ERR_NOT_FOUND:
        return "the object \"" META_CLUSTER_KEY "\" vanished while the cluster was being opened";
    default:
        return "the object \"" META_CLUSTER_KEY "\" cannot be read or created: the object store fails";
    }
}

enum err meta_cluster_open(struct meta *m, const char **why) {
    struct uuid id;
    enum err e = cluster_read(m, &id);
    bool first = e == ERR_NOT_FOUND;
    if (e == OK || first) {
        /* Everything rests on conditional creation: before the first object is written it is tried in earnest. */
        unsigned attempt = 0;
        enum err check;
        while ((check = store_check_conditional_create(m->store, META_PROBE_PREFIX, first, why)) != OK &&
               again(m, check, &attempt)) {
        }
        if (check != OK) return check;
    }
    if (first) {
        e = cluster_create(m);
        if (e == OK) e = cluster_read(m, &id);
    }
    if (e != OK) {
        *why = sentence(e);
        return e;
    }
    uuid_text(&id, m->cluster_id);
    if (first) log_info(m->env->log, "cluster created", "cluster_id=%s generation=%s", m->cluster_id, m->generation);
    return OK;
}

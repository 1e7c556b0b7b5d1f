/* Taking an object log over: a fence, which ends it for all, or an election, which makes this process its writer.
 *
 * The entry goes to the hole at which the replay stands. If the number is taken meanwhile, what lies there is applied
 * and the next hole is tried. An entry that was put, or a fence that was found, is not believed yet: the number may be
 * one that had been written, acknowledged, trimmed and deleted long ago, for a replay can be arbitrarily old when its
 * last request lands. The LIST begun afterwards tells: had the number been trimmed, then an entry above carries a
 * boundary above it, and is still there, for it or a newer one is what the log now begins with.
 *
 * A fencer may lose race after race against a writer that is alive and fast: it finds the number taken, or free because
 * it has been trimmed meanwhile, which the LIST tells. After eight it puts a fence where that
 * writer cannot have been yet, OBJLOG_DEPTH_MAX beyond the hole, and walks on: the writer comes to an end within that
 * distance. */
#include <inttypes.h>

#include "base/crc32c.h"
#include "objlog/objlog_priv.h"

#define LOST_RACES_MAX 8u

struct takeover {
    struct objlog *log;
    enum objlog_kind kind;
    const struct objlog_replay *replay;
    const struct slice *head;
    struct objlog_nonce made;  /* nonce of the entry put last */
    struct objlog_nonce ahead; /* of the fence put ahead; zero: none */
    uint64_t ahead_number;
    unsigned elections; /* of others, applied since the takeover began */
};

/* Puts the entry at that number. ERR_EXISTS: another lies there. */
static enum err claim(struct takeover *t, uint64_t number, bool ahead) {
    struct objlog *l = t->log;
    struct objlog_header h = {
        .kind = t->kind,
        .number = number,
        .boundary = l->boundary,
        .writer = l->writer,
        .head_size = t->head ? t->head->size : 0,
        .head_crc = t->head ? crc32c(0, t->head->data, t->head->size) : 0,
    };
    if (!ahead) h.previous = l->last;
    env_random(l->env, h.nonce.bytes, sizeof(h.nonce.bytes));
    t->made = h.nonce;
    uint8_t header[OBJLOG_HEADER_SIZE];
    objlog_header_encode(&h, header);
    struct slice data[2] = {slice_borrow(header, sizeof(header)), {0}};
    if (t->head) data[1] = slice_borrow(t->head->data, t->head->size);
    return objlog_put(l, number, data, t->head ? 2 : 1);
}

static const struct objlog_nonce *own_fence(const struct takeover *t) {
    return objlog_nonce_is_zero(&t->ahead) ? NULL : &t->ahead;
}

static bool fence_ahead_due(const struct takeover *t) {
    if (t->kind != OBJLOG_FENCE || t->log->lost_races < LOST_RACES_MAX) return false;
    return !own_fence(t) || t->ahead_number < t->log->next; /* a new beginning may have led past the first one */
}

static enum err fence_ahead(struct takeover *t) {
    uint64_t number = t->log->next + OBJLOG_DEPTH_MAX;
    enum err e = claim(t, number, true);
    if (e == OK) {
        t->ahead = t->made;
        t->ahead_number = number;
    }
    t->log->lost_races = 0; /* if the writer is already further than that, the next eight races decide again */
    return e == ERR_EXISTS ? OK : e;
}

/* One attempt at the hole. OK with *standing: an entry of this kind lies at `next`, made now or (a fence) found. OK
 * without: the position moved. */
static enum err attempt(struct takeover *t, bool *made, bool *standing) {
    struct objlog *l = t->log;
    *made = false;
    *standing = l->at_fence;
    if (l->at_fence) return t->kind == OBJLOG_FENCE ? OK : ERR_FENCED;
    if (fence_ahead_due(t)) {
        enum err e = fence_ahead(t);
        if (e != OK) return e;
    }
    enum err e = claim(t, l->next, false);
    if (e == OK) {
        *made = *standing = true;
        return OK;
    }
    if (e != ERR_EXISTS) return e;
    l->lost_races++;
    e = objlog_walk(l, t->replay, own_fence(t), &t->elections);
    if (e != ERR_STALE) return e;
    t->replay->reset(t->replay->ctx);
    return objlog_reload(l, t->replay, 0, own_fence(t), &t->elections);
}

/* The entry stands: the position moves behind an election, a fence is the end. */
static void takeover_settle(struct takeover *t, bool made) {
    struct objlog *l = t->log;
    l->lost_races = 0;
    if (l->boundary > l->carried) l->carried = l->boundary;
    if (t->kind == OBJLOG_ELECTION) {
        ASSERT(made && l->last_known);
        l->last = t->made;
        l->answered = l->durable = ++l->next;
        l->writable = true;
        l->fenced_at = UINT64_MAX;
        for (unsigned i = 0; i < OBJLOG_DEPTH_MAX; i++) l->window[i].done = false;
    } else if (made) {
        l->at_fence = true;
        l->fence_nonce = t->made;
    }
}

enum err objlog_take_over(struct objlog *l, enum objlog_kind kind, const struct objlog_replay *replay,
                          const struct slice *head, uint64_t *number, bool *mine) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    ASSERT(kind == OBJLOG_FENCE || kind == OBJLOG_ELECTION);
    ASSERT(l->appending == 0 && l->last_known);
    struct takeover t = {.log = l, .kind = kind, .replay = replay, .head = head};
    l->writable = false;
    l->fenced_at = UINT64_MAX;
    for (;;) {
        if (l->stopped) return ERR_CANCELLED;
        bool made, standing;
        enum err e = attempt(&t, &made, &standing);
        if (e != OK) return e;
        if (t.kind == OBJLOG_ELECTION && t.elections > 0) return ERR_FENCED;
        if (!standing) continue;
        uint64_t boundary = 0;
        if (!env_mutant(l->env, MUTANT_NO_LIST_CHECK)) e = objlog_check_above(l, l->next, &boundary);
        if (e == OK && boundary == 0) {
            *number = l->next;
            *mine = made || (own_fence(&t) && objlog_nonce_equal(&l->fence_nonce, &t.ahead));
            takeover_settle(&t, made);
            return OK;
        }
        if (e != OK && e != ERR_STALE) return e;
        log_info(l->env->log, "object log takeover begins anew", "prefix=%s number=%" PRIu64 " boundary=%" PRIu64,
                 l->prefix, l->next, boundary);
        l->lost_races++; /* a writer that trims as fast as this walks is as lost a race as one whose entry was there first */
        replay->reset(replay->ctx);
        e = objlog_reload(l, replay, boundary, own_fence(&t), &t.elections);
        if (e != OK) return e;
        if (t.kind == OBJLOG_ELECTION && t.elections > 0) return ERR_FENCED;
    }
}

/* What a member of a mirror is made of: a ring (wal.h), or an object log in another store (wal_objects.h). Here is all that
 * makes a difference between the two; the mirror itself knows members only. */
#include <stdio.h>

#include "base/assert.h"
#include "stream/wal_mirror_priv.h"

#define LOOK_NS (10 * NS_PER_S) /* how long a recovery that has all it needs waits for one more member */
#define NEED_NS (60 * NS_PER_S) /* and one that has not */

void medium_create(struct mirror_member *k) {
    const struct wal_mirror_options *o = &k->mirror->options;
    if (!k->options.objects) return;
    struct wal_objects_options w = {.env = k->mirror->env,
                                    .url = k->options.path,
                                    .open_store = o->open_store,
                                    .open_ctx = o->open_ctx,
                                    .depth = o->depth ? o->depth : 4,
                                    .confirmed = member_confirmed,
                                    .failed = member_failed,
                                    .ctx = k};
    k->objects = wal_objects_create(&w);
}

void medium_destroy(struct mirror_member *k) {
    if (k->objects) wal_objects_destroy(k->objects, false);
    k->objects = NULL;
    ASSERT(k->wal == NULL);
}

enum err medium_open(struct mirror_member *k, const char **why) {
    if (k->objects) return wal_objects_open(k->objects, why);
    const struct wal_mirror_options *m = &k->mirror->options;
    struct wal_options o = {.env = k->mirror->env,
                            .path = k->options.path,
                            .size_bytes = k->options.size_bytes,
                            .takeover_mark = k->options.takeover_mark,
                            .depth = m->depth,
                            .member = true,
                            .owner = m->owner,
                            .confirmed = member_confirmed,
                            .failed = member_failed,
                            .full = member_full,
                            .ctx = k};
    return wal_open(&o, &k->wal, why);
}

bool medium_is_open(const struct mirror_member *k) {
    return k->objects ? wal_objects_is_open(k->objects) : k->wal != NULL;
}

static void destroy_blocks(struct list *blocks) {
    for (struct list *n; (n = list_pop_front(blocks)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
}

void medium_settle(struct mirror_member *k) {
    struct list left;
    list_init(&left);
    if (k->objects) {
        wal_objects_abandon(k->objects, &left);
    } else if (k->wal) {
        wal_abandon(k->wal, &left);
        if (wal_head(k->wal) > k->behind) k->behind = wal_head(k->wal);
    }
    destroy_blocks(&left);
    k->settled = true;
}

void medium_close(struct mirror_member *k) {
    if (!k->settled) medium_settle(k);
    if (!k->wal) return;
    struct wal *w = k->wal;
    k->wal = NULL;
    wal_close(w, false);
}

void medium_close_in_order(struct mirror_member *k) {
    if (k->objects) {
        wal_objects_destroy(k->objects, true);
        k->objects = NULL;
    } else {
        wal_close(k->wal, true);
        k->wal = NULL;
    }
}

void medium_give_up(struct mirror_member *k) {
    if (k->objects)
        wal_objects_give_up(k->objects);
    else
        wal_give_up(k->wal);
}

void medium_submit(struct mirror_member *k, struct block *b) {
    if (k->objects)
        wal_objects_submit(k->objects, b);
    else
        wal_submit(k->wal, b);
}

void medium_trim(struct mirror_member *k, uint64_t position) {
    if (k->objects)
        wal_objects_trim(k->objects, position);
    else
        wal_trim(k->wal, position);
}

uint64_t medium_oldest_op_ns(const struct mirror_member *k) {
    return k->objects ? wal_objects_oldest_op_ns(k->objects) : wal_oldest_op_ns(k->wal);
}

uint64_t medium_used_bytes(const struct mirror_member *k) {
    return k->objects ? wal_objects_used_bytes(k->objects) : wal_used_bytes(k->wal);
}

/* A bucket has no end; the rings say how much may wait. */
uint64_t medium_capacity(const struct mirror_member *k) {
    return k->objects ? UINT64_MAX : wal_capacity(k->wal);
}

bool medium_idle(const struct mirror_member *k) {
    return k->objects ? wal_objects_begun(k->objects) && wal_objects_idle(k->objects) : k->wal && wal_idle(k->wal);
}

/* ---- beginning anew ---- */

bool medium_is_shared(const struct mirror_member *k) {
    return !k->objects && k->options.takeover_mark && !k->mirror->options.exclusive;
}

/* May this ring be begun anew? One without a superblock, one that an operator has made new, and our own of before; for what
 * another broker's or another cluster's holds may be nowhere else, and its owner is not asked. */
static enum err ring_is_ours(const struct mirror_member *k, const struct wal *w, const char **why) {
    const struct wal_mirror *m = k->mirror;
    const struct wal_superblock *s = wal_superblock(w);
    if (!s || s->generation[0] == '\0' || env_mutant(m->env, MUTANT_FORMAT_OTHERS)) return OK;
    if (strcmp(s->generation, m->generation) != 0) {
        *why =
            "it is a WAL of another cluster, and is left alone: give another file or device, or, if nobody needs what "
            "is in it, make it new with `oxbow wal init`";
        return ERR_FOREIGN;
    }
    /* An older version does not say whose it is. */
    bool known = s->closed || k->recovered || s->incarnation.v == m->incarnation.v;
    bool ours = s->owner == m->options.owner || (s->owner == 0 && known);
    if (ours && s->incarnation.v <= m->incarnation.v) return OK;
    *why = ours
               ? "it is the WAL of a later start of this broker, and is left alone"
               : "it is the WAL of another broker of this cluster, and is left alone: give another file or device, or, "
                 "if nobody needs what is in it, make it new with `oxbow wal init`";
    return ERR_EXISTS;
}

enum err medium_check(const struct mirror_member *k, const char **why) {
    return k->wal ? ring_is_ours(k, k->wal, why) : OK;
}

/* Without the lock: the ring's owner may be about to start. What cannot be read tells nothing; the open will. */
static enum err look_at_ring(const struct mirror_member *k, const char **why) {
    struct wal_options o = {.env = k->mirror->env, .path = k->options.path, .read_only = true};
    struct wal *w;
    const char *unused;
    if (wal_open(&o, &w, &unused) != OK) return OK;
    enum err e = ring_is_ours(k, w, why);
    wal_close(w, false);
    return e;
}

static enum err ring_format(struct mirror_member *k, const uint8_t id[16], const char **why) {
    struct wal_mirror *m = k->mirror;
    enum err e = ring_is_ours(k, k->wal, why);
    if (e == OK && medium_is_shared(k)) e = m->options.claim(m->options.ctx, k->wal, id, why);
    if (e != OK) return e;
    *why = "the WAL could not be formatted";
    return wal_format_at(k->wal, m->generation, m->incarnation, id, k->behind);
}

enum err medium_format(struct mirror_member *k, const char **why) {
    struct wal_mirror *m = k->mirror;
    uint8_t id[16];
    env_random(m->env, id, sizeof(id));
    enum err e;
    if (k->objects) {
        *why = "the first object of its log could not be put";
        e = wal_objects_begin(k->objects, m->generation, m->incarnation, id, m->options.timeout_ns);
    } else {
        e = ring_format(k, id, why);
    }
    if (e == OK) memcpy(k->id, id, sizeof(id));
    return e;
}

enum err medium_begin_anew(struct mirror_member *k, const char **why) {
    *why = "it could not be used again";
    if (medium_is_shared(k)) return wal_restart(k->wal);
    medium_close(k);
    enum err e = k->objects ? OK : look_at_ring(k, why);
    if (e == OK) e = medium_open(k, why);
    if (e != OK) return e;
    k->settled = false;
    /* What the shards make fits into those of the start. */
    if (medium_capacity(k) < k->mirror->capacity) {
        *why = "it is smaller than the others were at the start";
        e = ERR_INVALID;
    } else {
        e = medium_format(k, why);
    }
    if (e != OK) medium_close(k);
    return e;
}

/* ---- recovery ---- */

struct wal *wal_mirror_member(struct wal_mirror *m, unsigned index) {
    return index < m->count ? m->members[index].wal : NULL;
}

void wal_mirror_recovered(struct wal_mirror *m, const struct wal *w) {
    for (unsigned i = 0; i < m->count; i++) m->members[i].recovered |= m->members[i].wal == w;
}

enum err wal_mirror_missing(const struct wal_mirror *m) {
    enum err e = OK;
    for (unsigned i = 0; i < m->count; i++) {
        if (!medium_is_open(&m->members[i]) && (e == OK || e == ERR_NOT_FOUND)) e = m->members[i].lost_why;
    }
    return e;
}

/* A ring's id is looked for in vain: one LIST. */
static enum err replay_objects(struct mirror_member *k, const struct wal_mirror_recovery *r, bool needed,
                               const char **why) {
    struct wal_mirror *m = k->mirror;
    enum err e = wal_objects_open(k->objects, why);
    k->lost_why = e;
    if (e != OK) return e;
    e = ERR_NOT_FOUND;
    for (unsigned i = 0; i < r->membership->count && e == ERR_NOT_FOUND; i++) {
        struct wal_objects_found found;
        *why = "the object log could not be fenced and read";
        e = wal_objects_replay(k->objects, r->generation, r->dead, r->membership->ids[i], r->taker,
                               needed ? NEED_NS : LOOK_NS, r->record, r->ctx, &found);
        if (e == OK)
            log_info(m->env->log, "wal recovered from objects",
                     "incarnation=%" PRIu64 " entries=%" PRIu64 " groups=%" PRIu64 " records=%" PRIu64, r->dead.v,
                     found.entries, found.groups, found.records);
    }
    return e;
}

enum err wal_mirror_replay_objects(struct wal_mirror *m, const struct wal_mirror_recovery *r, bool needed,
                                   const char **why) {
    enum err result = ERR_NOT_FOUND;
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (!k->objects || env_mutant(m->env, MUTANT_IGNORE_OBJECTS)) continue;
        const char *what = NULL;
        enum err e = replay_objects(k, r, needed && result != OK, &what);
        if (e == OK) {
            result = OK;
        } else if (e != ERR_NOT_FOUND) {
            char path[300];
            log_error(m->env->log, "wal member cannot be recovered from", "path=%s error=%s why=\"%s\"",
                      member_quoted(k, path, sizeof(path)), err_name(e), what ? what : "");
            if (result == ERR_NOT_FOUND) {
                result = e;
                *why = what;
            }
        }
        if (r->failed(r->ctx)) break;
    }
    return result;
}

void wal_mirror_sweep(struct wal_mirror *m, struct incarnation self, const bool *stop) {
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        uint64_t deleted = 0;
        if (!k->objects || !wal_objects_is_open(k->objects)) continue;
        enum err e = wal_objects_sweep(k->objects, m->generation, self, stop, &deleted);
        char path[300];
        if (e != OK)
            log_info(m->env->log, "a mirror's object log is not swept; a later start will", "path=%s error=%s",
                     member_quoted(k, path, sizeof(path)), err_name(e));
        else if (deleted > 0)
            log_info(m->env->log, "swept object logs of earlier incarnations", "deleted=%" PRIu64, deleted);
    }
}

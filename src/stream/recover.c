/* Recovery of a dead incarnation: fence its ledger, replay it, take its WAL over, and carry everything into our own
 * ledger. Nothing is served before that is durable. So that a full WAL takes little longer than its device needs to read
 * it, three things go on at the same time: pieces of the ring are read ahead (wal_replay), what has come is checked and
 * copied here, and entries of what came before are on their way to the store. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define REPLAYS_MAX 10u

struct recovery {
    struct streams *s;
    struct incarnation dead;
    char prefix[OBJECT_KEY_MAX];
    struct ledger_image image;
    struct ledger_filter filter;
    struct object_head last_head; /* of the newest entry */
    struct wal_membership wal;    /* which WALs hold what is not in the ledger: each all of it; none: nothing does */
    bool any, closed;
    uint64_t looked_at; /* number of the entry that was applied last */
    /* Records of the WAL, being made into blocks, of which entries are made while it is read on. */
    struct list slabs; /* all that there are, the one in use last: each is filled anew when its entry is in the store */
    struct list blocks;
    struct commit_slab *slab;
    struct block *open;
    struct upload_recovered uploads;
    uint64_t next_sequence, block_bytes, uploaded_entries;
    enum err failed; /* of an upload: no ring can help */
};

/* Of a mirror the membership with the highest version counts: an entry that was begun before a change, and says what held
 * then, may have the higher number. Of a single ring each entry says the same, once it has been formatted. */
static void name_wal(struct recovery *r) {
    static const uint8_t none[16];
    const struct object_head *h = &r->last_head;
    if (h->members.version > 0) {
        if (h->members.version >= r->wal.version) r->wal = h->members;
    } else if (memcmp(h->wal_id, none, sizeof(none)) != 0) {
        r->wal = (struct wal_membership){.count = 1};
        memcpy(r->wal.ids[0], h->wal_id, sizeof(h->wal_id));
    }
}

static enum err apply(void *ctx, const struct objlog_entry *e) {
    struct recovery *r = ctx;
    r->looked_at = e->header.number;
    if (e->header.kind == OBJLOG_FENCE) return OK;
    if (e->header.writer != r->dead.v) return ERR_CORRUPT;
    enum err err = ledger_apply_entry(&r->image, r->s->store, r->s->generation, r->dead, e, &r->filter, &r->last_head);
    if (err != OK) return err;
    r->any = true;
    name_wal(r);
    r->closed = e->header.kind == OBJLOG_CHECKPOINT && r->last_head.closed;
    return OK;
}

static void reset(void *ctx) {
    struct recovery *r = ctx;
    ledger_image_deinit(&r->image);
    ledger_image_init(&r->image, r->s->mem);
    r->any = r->closed = false;
    r->wal = (struct wal_membership){0};
}

static enum err fence_and_replay_once(struct recovery *r, struct objlog *log, const char **why) {
    struct streams *s = r->s;
    struct objlog_replay replay = {apply, reset, r};
    *why = "the ledger of an earlier start could not be read";
    enum err e = objlog_recover(log, &replay);
    if (e == OK && env_mutant(s->env, MUTANT_SKIP_FENCE)) return OK;
    if (e == OK || e == ERR_NOT_FOUND) {
        /* The fence names the recoverer. */
        uint8_t head_bytes[8];
        le64_put(head_bytes, s->options.incarnation.v);
        struct slice head = slice_borrow(head_bytes, sizeof(head_bytes));
        uint64_t number;
        bool mine;
        *why = "the ledger of an earlier start could not be fenced";
        e = objlog_take_over(log, OBJLOG_FENCE, &replay, &head, &number, &mine);
        if (e == OK && !mine) log_info(s->env->log, "ledger was fenced before", "incarnation=%" PRIu64, r->dead.v);
    }
    if (e == ERR_VERSION)
        *why =
            "the ledger of an earlier start was written by a newer version of Oxbow (a line above has the versions): run "
            "that version or a later one on this store and WAL; nothing of it was changed";
    return e;
}

/* Whom we take for dead may still run, on a shared store: then it writes checkpoints, and deletes the states that an
 * older one names before we have read them. The newest checkpoint names others. Only beginnings without its progress are
 * counted. It is one takeover: the log remembers the races that it has lost against that writer. */
static enum err fence_and_replay(struct recovery *r, const char **why) {
    object_ledger_prefix(r->prefix, r->s->generation, r->dead);
    struct objlog_options o = {.store = r->s->store,
                               .prefix = r->prefix,
                               .depth = 1,
                               .writer = r->s->options.incarnation.v,
                               .purpose = STORE_FOR_LEDGER};
    struct objlog *log = objlog_create(&o);
    uint64_t furthest = 0;
    enum err e;
    for (unsigned attempt = 0;;) {
        e = fence_and_replay_once(r, log, why);
        if (e != ERR_TRUNCATED || r->s->store->exclusive) break;
        if (r->looked_at > furthest) {
            furthest = r->looked_at;
            attempt = 0;
        } else if (++attempt > REPLAYS_MAX) {
            break;
        }
        reset(r);
        env_backoff(r->s->env, attempt, 20 * NS_PER_MS, NS_PER_S);
    }
    objlog_destroy(log);
    return e;
}

/* The dead incarnation's states become ours; its streams are not in our image yet: an incarnation's partitions are
 * its own. */
static void adopt(struct recovery *r) {
    struct streams *s = r->s;
    size_t cursor = 0;
    struct ledger_stream *theirs;
    while ((theirs = map64_next(&r->image.streams, &cursor, NULL)) != NULL) {
        ASSERT(ledger_image_get(&s->image, theirs->id) == NULL);
        /* The records still to come from the WAL carry their epoch; recovered ones are committed under it, and the
         * tenure that begins raises it. */
        struct ledger_stream *ours = ledger_image_add(&s->image, theirs->id, theirs->epoch);
        struct stream_state empty = ours->state;
        ours->state = theirs->state;
        theirs->state = empty;
        ours->refused = theirs->refused;
        upload_count_ranges(s, ours, 1);
    }
}

/* ---- the WAL ---- */

static void seal_open(struct recovery *r) {
    if (!r->open) return;
    block_seal(r->open, env_now_ns(r->s->env));
    list_push_back(&r->blocks, &r->open->node);
    r->open = NULL;
}

static enum err upload_so_far(struct recovery *r) {
    seal_open(r);
    r->slab = NULL;
    if (list_empty(&r->blocks)) return OK;
    r->block_bytes = 0;
    r->uploaded_entries++;
    return upload_recovered_add(&r->uploads, &r->blocks);
}

/* Of the log cache, which has nothing else to hold yet: a part for each entry that is under way, for the one that is being
 * filled, and one more for what slabs have left over. */
static uint64_t entry_bytes(const struct streams *s) {
    uint64_t part = s->options.cache_log_bytes / (RECOVERY_UPLOADS + 2);
    if (part < COMMIT_SLAB_SIZE / 2) part = COMMIT_SLAB_SIZE / 2;
    return part < UPLOAD_RECOVERY_MAX ? part : UPLOAD_RECOVERY_MAX;
}

static void slab_let_go(struct recovery *r, struct commit_slab *slab) {
    metric_gauge_add(r->s->env->metrics, M_LOG_CACHE_BYTES, -(int64_t)slab->slab.size);
    slab_unref(&slab->slab);
}

/* One with room for the record: the oldest, with its pages, if nobody needs any more what is in it. */
static void next_slab(struct recovery *r, size_t payload_size) {
    size_t need = GROUP_HEADER_SIZE + record_size(payload_size);
    struct commit_slab *oldest = list_empty(&r->slabs) ? NULL : LIST_ENTRY(r->slabs.next, struct commit_slab, node);
    bool free = oldest && atomic_load_explicit(&oldest->slab.refs, memory_order_acquire) == 1;
    if (free && oldest->slab.size >= need) {
        r->slab = oldest;
        r->slab->filled = 0;
        list_remove(&r->slab->node);
    } else {
        if (free) { /* too small, or a large record's; else only ever more would be kept */
            list_remove(&oldest->node);
            slab_let_go(r, oldest);
        }
        r->slab = commit_slab_create(r->s->mem, need > COMMIT_SLAB_SIZE ? need : COMMIT_SLAB_SIZE);
        metric_gauge_add(r->s->env->metrics, M_LOG_CACHE_BYTES, (int64_t)r->slab->slab.size);
    }
    list_push_back(&r->slabs, &r->slab->node);
}

static enum err wal_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct recovery *r = ctx;
    struct streams *s = r->s;
    int32_t epoch;
    if (!r->filter.is_current(r->filter.ctx, h->stream, &epoch) || epoch != h->epoch) return OK;
    if (h->type == STREAM_TRIM && env_mutant(s->env, MUTANT_FORGET_TRIMS)) return OK;
    struct ledger_stream *c = ledger_image_get(&s->image, h->stream);
    if (!c) c = ledger_image_add(&s->image, h->stream, epoch);
    /* In the ledger already, or in an entry on its way there: another member of a mirror has given it. */
    if (h->type == STREAM_BATCH && (h->end_offset <= c->state.end_offset || h->end_offset <= c->submitted_end))
        return OK;
    if (r->open && !block_fits(r->open, h->payload_size)) seal_open(r);
    if (!r->open) {
        next_slab(r, h->payload_size);
        r->open = block_create(s->mem, r->slab, r->next_sequence++, s->options.incarnation, 0);
    }
    (void)block_append(r->open, h, payload, 0); /* the checksum is the WAL's; this block never goes to one */
    r->block_bytes += record_size(h->payload_size);
    if (r->block_bytes < entry_bytes(s)) return OK;
    r->failed = upload_so_far(r);
    return r->failed;
}

/* Does this ring hold what the dead incarnation has acknowledged? A member that was dropped from a mirror does not. */
static bool ring_counts(const struct recovery *r, const struct wal *w) {
    const struct wal_superblock *b = wal_superblock(w);
    if (!b || strcmp(b->generation, r->s->generation) != 0) return false;
    if (env_mutant(r->s->env, MUTANT_BELIEVE_DROPPED) && b->incarnation.v == r->dead.v) return true;
    for (unsigned i = 0; i < r->wal.count; i++) {
        if (memcmp(b->wal_id, r->wal.ids[i], sizeof(b->wal_id)) == 0) return true;
    }
    return false;
}

static bool no_ring_can_help(void *ctx) {
    return ((struct recovery *)ctx)->failed != OK;
}

static const char wal_is_newer[] =
    "the WAL holds records that a newer version of Oxbow wrote (a line above has the versions): start that version or a later "
    "one; nothing of it was changed";

static enum err replay_objects(struct recovery *r, bool needed, const char **why) {
    struct streams *s = r->s;
    struct wal_mirror_recovery m = {.generation = s->generation,
                                    .dead = r->dead,
                                    .taker = s->options.incarnation,
                                    .membership = &r->wal,
                                    .record = wal_record,
                                    .failed = no_ring_can_help,
                                    .ctx = r};
    enum err e = wal_mirror_replay_objects(s->mirror, &m, needed, why);
    if (e == OK && r->failed == OK) r->failed = upload_so_far(r);
    return e;
}

static enum err replay_ring(struct recovery *r, struct wal *w, const char **why) {
    struct streams *s = r->s;
    /* Who holds the store alone knows that the earlier holder is dead: then the ring needs no mark, and can be used
     * again. */
    if (wal_takes_mark(w) && !s->store->exclusive) {
        *why = "the takeover mark could not be written to the WAL";
        enum err e = wal_mark(w, r->dead, s->options.incarnation);
        if (e == OK && !ring_counts(r, w)) e = ERR_STALE;
        if (e != OK) return e;
    }
    struct wal_found found;
    *why = "the WAL could not be read";
    enum err e = wal_replay(w, wal_record, r, &found);
    if (e == OK && !found.damaged && r->failed == OK) r->failed = upload_so_far(r);
    if (e == ERR_VERSION) *why = wal_is_newer;
    if (e == OK && found.damaged) {
        log_error(s->env->log, "wal is damaged", "path=%s position=%" PRIu64 " error=%s groups_behind=%" PRIu64,
                  wal_path(w), found.end_position, err_name(found.stopped_by), found.groups_behind);
        *why =
            "the WAL is damaged in the middle: whole groups lie behind a place that does not verify, so records that were acknowledged may be lost; restore the device "
            "(`oxbow wal inspect` shows the place)";
        return ERR_CORRUPT;
    }
    if (e == OK) {
        log_info(s->env->log, "wal recovered",
                 "incarnation=%" PRIu64 " groups=%" PRIu64 " records=%" PRIu64 " ended_by=%s torn=%d entries=%" PRIu64,
                 r->dead.v, found.groups, found.records, err_name(found.stopped_by), found.torn, r->uploaded_entries);
    }
    return e;
}

/* All that is there and counts is read, one after the other: what one has given, another need not. So what comes out is the
 * longest of them; and one that is whole is enough, for all of them had confirmed what was acknowledged. */
static enum err replay_rings(struct recovery *r, const char **why) {
    struct streams *s = r->s;
    bool whole = false;
    enum err worst = OK;
    struct wal *w;
    for (unsigned i = 0; (w = log_wal_ring(s, i)) != NULL && r->failed == OK; i++) {
        const char *what = "the WAL's superblocks could not be read again";
        enum err e = wal_takes_mark(w) && !s->store->exclusive ? wal_look_again(w) : OK;
        if (e == OK && !ring_counts(r, w)) continue;
        if (e == OK) e = replay_ring(r, w, &what);
        if (e == OK) {
            whole = true;
            if (s->mirror) wal_mirror_recovered(s->mirror, w);
            continue;
        }
        if (r->failed != OK) break;
        if (r->wal.count > 1)
            log_error(s->env->log, "wal member cannot be recovered from", "path=%s error=%s", wal_path(w), err_name(e));
        if (worst == OK || e == ERR_VERSION) {
            worst = e;
            *why = what;
        }
    }
    if (s->mirror && r->failed == OK) {
        const char *what = NULL;
        enum err e = replay_objects(r, !whole, &what);
        whole |= e == OK;
        if (e != OK && e != ERR_NOT_FOUND && (worst == OK || e == ERR_VERSION)) {
            worst = e;
            *why = e == ERR_VERSION ? wal_is_newer : what;
        }
    }
    if (r->failed != OK) return r->failed;
    /* A member that only a newer program can read is not begun anew, whatever another one has. */
    if (worst == ERR_VERSION) return worst;
    if (whole) return OK;
    if (worst != OK) return worst;
    enum err missing = s->mirror ? wal_mirror_missing(s->mirror) : OK;
    if (missing != OK) {
        *why =
            "none of the members of the mirrored WAL that have all that was acknowledged can be reached; one of them is "
            "needed, for these records are not in the object store";
        return missing;
    }
    *why =
        log_wal_ring(s, 0) && wal_superblock(log_wal_ring(s, 0))
            ? "wal.url holds the WAL of another broker or another start: the one this broker last used has records that are not in the object store; give it back"
            : "the WAL that this broker last used is not at wal.url, and it has records that are not in the object store; give it back";
    return ERR_NOT_FOUND;
}

static enum err replay_wal(struct recovery *r, const char **why) {
    struct streams *s = r->s;
    /* Stopped in order, or ended before it had a WAL: everything that it acknowledged is in its ledger. */
    if (r->closed || !r->any || r->wal.count == 0) return OK;
    if (!log_wal_is(s)) {
        *why =
            "wal.url is none, but this broker last used a WAL, with records that are not in the object store; give that "
            "wal.url once more, and stop the broker in order";
        return ERR_NOT_FOUND;
    }
    enum err e = replay_rings(r, why);
    enum err uploaded = upload_recovered_wait(&r->uploads);
    if (uploaded == OK) uploaded = r->failed;
    if (uploaded == OK) return e;
    *why = "what the WAL held could not be written to the object store";
    return uploaded;
}

/* The new tenure: what was recovered under the dead incarnation's epoch goes on under the next. */
static void raise_epochs(struct recovery *r) {
    struct streams *s = r->s;
    size_t cursor = 0;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        int32_t epoch;
        if (!r->filter.is_current(r->filter.ctx, c->id, &epoch)) continue;
        ASSERT(c->epoch == epoch);
        c->epoch = env_mutant(s->env, MUTANT_SAME_EPOCH) ? epoch : epoch + 1;
        c->dirty = true;
    }
}

enum err streams_recover(struct streams *s, struct incarnation dead,
                         bool (*is_current)(void *ctx, struct stream_id id, int32_t *epoch), void *ctx,
                         uint64_t *state_entry, const char **why) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(!s->started && dead.v < s->options.incarnation.v);
    struct recovery r = {.s = s, .dead = dead, .filter = {is_current, ctx}, .next_sequence = 1};
    list_init(&r.slabs);
    list_init(&r.blocks);
    upload_recovered_init(&r.uploads, s);
    ledger_image_init(&r.image, s->mem);
    enum err e = fence_and_replay(&r, why);
    if (e == OK) {
        adopt(&r);
        *why = "the recovered state could not be written to the object store";
        if (objlog_next(s->log) == 0) e = checkpoint_write(s, false);
    }
    if (e == OK) e = replay_wal(&r, why);
    if (e == OK) {
        *why = "the recovered state could not be written to the object store";
        raise_epochs(&r);
        e = checkpoint_write(s, false);
    }
    if (e == OK) *state_entry = objlog_next(s->log) - 1;
    for (struct list *n; (n = list_pop_front(&r.blocks)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
    if (r.open) block_destroy(r.open);
    for (struct list *n; (n = list_pop_front(&r.slabs)) != NULL;)
        slab_let_go(&r, LIST_ENTRY(n, struct commit_slab, node));
    ledger_image_deinit(&r.image);
    if (e == OK) *why = NULL;
    return e;
}

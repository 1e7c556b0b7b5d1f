/* The log side and its WAL: one ring, or a mirror of several. What there is makes no difference to the rest of the engine:
 * blocks go in, and are confirmed in that order; or it fails, and the ledger confirms until it works again. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"
#include "stream/wal_claim.h"

#define MEMBER_RETRY_NS (100 * NS_PER_MS)

/* ---- what it says ---- */

static void wal_full(void *ctx) {
    upload_want(ctx);
}

static void wal_confirmed(void *ctx, struct block *b) {
    struct streams *s = ctx;
    log_queue_push(s, QUEUE_PENDING, b);
    log_publish_durable(s, b);
    if (env_mutant(s->env, MUTANT_WAL_TRIM_EARLY)) log_wal_trim(s, b->wal_end);
    metric_set(s->env->metrics, M_WAL_USED_BYTES, (int64_t)log_wal_used_bytes(s));
    upload_poke(s);
}

static void wal_went_wrong(void *ctx, enum err why) {
    struct streams *s = ctx;
    if (s->closing) return; /* nobody waits any more: the blocks stay in the WAL's lists until it is closed */
    s->wal_mode = WAL_MODE_FAILED;
    if (why == ERR_FENCED) {
        log_fatal(s, why, "the WAL carries a takeover mark: another broker has taken it over");
        return;
    }
    char path[300];
    log_error(s->env->log,
              "wal write failed: its outcome is unknown; acknowledging from the object store until it works again",
              "error=%s path=%s", err_name(why),
              log_quote(path, sizeof(path), log_wal_path(s), strlen(log_wal_path(s))));
    struct list back;
    list_init(&back);
    if (s->mirror)
        wal_mirror_take_unconfirmed(s->mirror, &back);
    else
        wal_take_unconfirmed(s->wal, &back);
    struct block_queue *q = &s->queues[QUEUE_UNACKED];
    LIST_EACH(it, &back) q->bytes += LIST_ENTRY(it, struct block, node)->size;
    list_splice_back(&back, &q->blocks); /* what came since is behind them */
    list_splice_back(&q->blocks, &back);
    upload_poke(s);
}

/* ---- may it be used? ---- */

/* Who holds the store alone shares its WAL with nobody either. */
static bool wal_is_shared(const struct streams_options *o, bool takeover_mark) {
    return takeover_mark && !o->store->exclusive;
}

static const char wal_is_nobodys[] =
    "the file or device has no WAL yet, and with takeover=mark it must have one, with an id that one start alone can "
    "claim: run `oxbow wal init` on it once; or say takeover=lock in wal.url if only one machine can ever reach it";

static enum err check_ring(const struct streams_options *o, const char *path, bool takeover_mark, const char **why) {
    enum err e = wal_check_free(o->env, path, why);
    if (e != OK || !wal_is_shared(o, takeover_mark)) return e;
    struct wal_options look = {.env = o->env, .path = path, .read_only = true};
    struct wal *w;
    e = wal_open(&look, &w, why);
    if (e != OK && e != ERR_NOT_FOUND) return OK; /* said again when it is opened in earnest */
    bool is_one = e == OK && wal_superblock(w);
    if (e == OK) wal_close(w, false);
    if (is_one) return OK;
    *why = wal_is_nobodys;
    return ERR_NOT_FOUND;
}

enum err streams_check_wal(const struct streams_options *o, const char **why) {
    enum err e = o->wal_path ? check_ring(o, o->wal_path, o->wal_takeover_mark, why) : OK;
    for (unsigned i = 0; i < o->wal_member_count && e == OK; i++) {
        const struct stream_wal_member *k = &o->wal_members[i];
        if (k->objects) continue; /* a folder's lock is asked for when it is opened */
        enum err found = check_ring(o, k->path, k->takeover_mark, why);
        if (found == ERR_LOCKED) e = found; /* another member may do for the rest */
    }
    return e;
}

/* A ring that others reach, whom nothing shuts out: may we begin it anew? ERR_FENCED: nobody may (wal.h, rule 7). */
static enum err claim_wal(void *ctx, struct wal *w, const uint8_t next_id[16], const char **why) {
    struct streams *s = ctx;
    const struct wal_superblock *before = wal_superblock(w);
    if (!before) {
        *why = wal_is_nobodys;
        return ERR_NOT_FOUND;
    }
    if (before->generation[0] && strcmp(before->generation, s->generation) != 0) {
        *why =
            "wal.url holds the WAL of another cluster, whose brokers may still use it: give another wal.url, or make it "
            "new with `oxbow wal init` when no machine writes to it any more";
        return ERR_FOREIGN;
    }
    struct incarnation taken;
    *why = "the takeover mark of the WAL could not be read";
    enum err e = wal_read_mark(w, &taken);
    if (e != ERR_NOT_FOUND) return e == OK ? ERR_FENCED : e;
    if (!before->closed) return ERR_FENCED;
    if (env_mutant(s->env, MUTANT_NO_WAL_CLAIM)) return OK;
    struct wal_claim claim = {.claimant = s->options.incarnation};
    memcpy(claim.wal_id, before->wal_id, sizeof(claim.wal_id));
    memcpy(claim.next_id, next_id, sizeof(claim.next_id));
    *why = "the claim of the WAL could not be written to the object store";
    e = wal_claim_take(s->store, s->generation, &claim, &s->closing);
    return e == ERR_EXISTS ? ERR_FENCED : e;
}

/* ---- open, format, close ---- */

static uint64_t owner(const struct streams *s) {
    return (uint64_t)s->options.broker_id + 1;
}

static enum err open_wal(struct streams *s, const char **why) {
    const struct streams_options *o = &s->options;
    struct wal_options wal = {.env = o->env,
                              .path = o->wal_path,
                              .size_bytes = o->wal_size_bytes,
                              .takeover_mark = o->wal_takeover_mark,
                              .depth = WAL_DEPTH,
                              .owner = owner(s),
                              .confirmed = wal_confirmed,
                              .failed = wal_went_wrong,
                              .full = wal_full,
                              .ctx = s};
    return wal_open(&wal, &s->wal, why);
}

/* What the membership is to be, for recoveries. Nobody may be told of anything that rests on it before. */
static enum err members_change(void *ctx, const struct wal_membership *members) {
    struct streams *s = ctx;
    enum err e = ledger_write_members(s, members);
    if (e == ERR_FENCED) log_fatal(s, e, "another broker has fenced this ledger");
    return e;
}

static enum err open_mirror(struct streams *s, const char **why) {
    const struct streams_options *o = &s->options;
    struct wal_mirror_options mirror = {.env = o->env,
                                        .members = o->wal_members,
                                        .count = o->wal_member_count,
                                        .stops = o->wal_mirror_stops,
                                        .timeout_ns = o->wal_mirror_timeout_ms * NS_PER_MS,
                                        .retry_ns = MEMBER_RETRY_NS,
                                        .depth = WAL_DEPTH,
                                        .exclusive = o->store->exclusive,
                                        .owner = owner(s),
                                        .confirmed = wal_confirmed,
                                        .failed = wal_went_wrong,
                                        .full = wal_full,
                                        .change = members_change,
                                        .claim = claim_wal,
                                        .open_store = o->open_store,
                                        .open_ctx = o->open_ctx,
                                        .ctx = s};
    return wal_mirror_open(&mirror, &s->mirror, why);
}

enum err log_wal_open(struct streams *s, const char **why) {
    ASSERT(!s->options.wal_path || s->options.wal_member_count == 0);
    if (s->options.wal_member_count > 0) return open_mirror(s, why);
    return s->options.wal_path ? open_wal(s, why) : OK;
}

static enum err format_ring(struct streams *s, const char **why) {
    const struct wal_superblock *before = wal_superblock(s->wal);
    if (before && !before->closed && strcmp(before->generation, s->generation) != 0) {
        *why = "wal.url holds the WAL of another cluster that was not stopped in order: it may have records that are "
               "nowhere else; give another wal.url, or start that cluster once with it";
        return ERR_FOREIGN;
    }
    uint8_t wal_id[16];
    env_random(s->env, wal_id, sizeof(wal_id));
    if (wal_is_shared(&s->options, s->options.wal_takeover_mark)) {
        enum err e = claim_wal(s, s->wal, wal_id, why);
        if (e != OK) return e;
    }
    *why = "the WAL could not be formatted";
    enum err e = wal_format(s->wal, s->generation, s->options.incarnation, wal_id);
    /* From the next entry on our ledger names the WAL that a recovery has to ask for; before it is durable nothing is
     * acknowledged. */
    if (e == OK) memcpy(s->wal_id, wal_id, sizeof(wal_id));
    return e;
}

/* What the ring held has been recovered. Whoever wrote to it last may still do so, and nobody can tell: so we go on
 * without it. */
static void wal_left_alone(struct streams *s) {
    char path[300];
    log_error(
        s->env->log,
        "the WAL was not closed in order, or another start has claimed it: it is never written to again, and "
        "records are acknowledged from the object store. All that it held is there. To have a WAL again: make it new "
        "with `oxbow wal init --force` when no other machine writes to it any more, or give another wal.url; then "
        "start again",
        "path=%s", log_quote(path, sizeof(path), log_wal_path(s), strlen(log_wal_path(s))));
    if (s->mirror) wal_mirror_close(s->mirror, false);
    if (s->wal) wal_close(s->wal, false);
    s->mirror = NULL;
    s->wal = NULL;
    metric_set(s->env->metrics, M_WAL_FAILED, 1);
}

static enum err format_mirror(struct streams *s, const char **why) {
    enum err e = wal_mirror_format(s->mirror, s->generation, s->options.incarnation, why);
    /* The next entry of our ledger names its members, before anything rests on them. */
    if (e == OK) s->members = *wal_mirror_membership(s->mirror);
    return e;
}

enum err log_wal_format(struct streams *s, const char **why) {
    if (!log_wal_is(s)) return OK;
    enum err e = s->mirror ? format_mirror(s, why) : format_ring(s, why);
    bool shared = s->mirror || wal_is_shared(&s->options, s->options.wal_takeover_mark);
    if (e != ERR_FENCED || !shared) return e;
    wal_left_alone(s);
    return OK;
}

void log_wal_start(struct streams *s) {
    bool works = s->mirror ? wal_mirror_start(s->mirror) : s->wal != NULL;
    /* else it has failed already, while it was prepared in the background */
    if (works && s->wal_mode == WAL_MODE_OFF) s->wal_mode = WAL_MODE_ON;
    if (!works && log_wal_is(s)) s->wal_mode = WAL_MODE_FAILED;
}

void log_wal_close(struct streams *s, bool in_order) {
    if (s->mirror) {
        if (!in_order) wal_mirror_abandon(s->mirror, &s->queues[QUEUE_UNACKED].blocks);
        wal_mirror_close(s->mirror, in_order);
    } else if (s->wal) {
        if (!in_order) wal_abandon(s->wal, &s->queues[QUEUE_UNACKED].blocks);
        wal_close(s->wal, in_order);
    }
}

/* ---- whichever it is ---- */

struct wal *log_wal_ring(const struct streams *s, unsigned index) {
    if (s->wal) return index == 0 ? s->wal : NULL;
    for (unsigned i = 0; s->mirror && i < WAL_MEMBERS_MAX; i++) {
        struct wal *w = wal_mirror_member(s->mirror, i);
        if (w && index-- == 0) return w;
    }
    return NULL;
}

const char *log_wal_path(const struct streams *s) {
    return s->mirror ? wal_mirror_path(s->mirror) : wal_path(s->wal);
}

void log_wal_names(const struct streams *s, struct object_head *head) {
    memcpy(head->wal_id, s->wal_id, sizeof(head->wal_id));
    head->members = s->members;
}

enum err log_wal_restart(struct streams *s) {
    return s->mirror ? wal_mirror_restart(s->mirror) : wal_restart(s->wal);
}

void log_wal_submit(struct streams *s, struct block *b) {
    if (s->mirror)
        wal_mirror_submit(s->mirror, b);
    else
        wal_submit(s->wal, b);
}

void log_wal_trim(struct streams *s, uint64_t position) {
    if (s->mirror)
        wal_mirror_trim(s->mirror, position);
    else
        wal_trim(s->wal, position);
}

uint64_t log_wal_used_bytes(const struct streams *s) {
    return s->mirror ? wal_mirror_used_bytes(s->mirror) : wal_used_bytes(s->wal);
}

uint64_t log_wal_capacity(const struct streams *s) {
    return s->mirror ? wal_mirror_capacity(s->mirror) : wal_capacity(s->wal);
}

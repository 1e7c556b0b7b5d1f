/* Commits: from a request to a durable record in the log and the image.
 *
 * A group is formed when nothing is in flight, so the image is then all that there is; each record is checked against
 * the image and is sure to apply, provided that no other of its group touches the same thing. Hence a group takes at
 * most one record for each topic name and for each incarnation that is being recovered; a second one waits for the next
 * group, where it is checked against what the first has left. (Two creations of one topic: the second gets
 * ERR_TOPIC_EXISTS. A creation beside a deletion of the same name: whichever came first.) Ids that records give out are
 * counted on within the group. The image changes only when the group is durable, all at once: nothing is shown before
 * it may be.
 *
 * After a fence nothing is ever written again: all that wait, and all that come, get ERR_FENCED. */
#include <inttypes.h>

#include "base/crc32c.h"
#include "meta/meta_priv.h"

struct group {
    struct list commits;
    size_t count;
    struct mapstr taken; /* what its records, and those that had to wait, touch */
    uint64_t next_stream, next_producer_id;
    struct buf bytes;
};

static void commit_done(struct meta_commit *c, enum err result) {
    ASSERT(!c->done);
    list_remove(&c->link);
    c->result = result;
    c->done = true;
    waitq_wake_all(&c->changed);
}

static void group_init(struct group *g, struct meta *m) {
    list_init(&g->commits);
    g->count = 0;
    mapstr_init(&g->taken, m->env->mem);
    g->next_stream = m->image.next_stream;
    g->next_producer_id = m->image.next_producer_id;
    buf_init(&g->bytes, m->env->mem);
}

static void group_deinit(struct group *g) {
    ASSERT(list_empty(&g->commits));
    mapstr_deinit(&g->taken);
    buf_deinit(&g->bytes);
}

/* What the record touches, as a key that no other in its group may have; size 0: nothing. */
static struct meta_text touched(const struct meta *m, const struct meta_record *r) {
    const struct meta_topic *t = NULL;
    switch (r->kind) {
    case META_TOPIC_CREATE:
        return r->topic_create.name;
    case META_TOPIC_DELETE:
        t = meta_image_topic_by_id(&m->image, &r->topic_delete.id);
        break;
    case META_TOPIC_CONFIGURE:
        t = meta_image_topic_by_id(&m->image, &r->topic_configure.id);
        break;
    case META_PARTITIONS_ADD:
        t = meta_image_topic_by_id(&m->image, &r->partitions_add.id);
        break;
    case META_RECOVERED:
        return (struct meta_text){(const char *)&r->recovered.from, sizeof(r->recovered.from)};
    case META_REGISTRATION:
    case META_PRODUCER_IDS:
    case META_FORGET_RETIRED:
    case META_BROKER_CONFIGURE: /* fits whatever came before */
        break;
    }
    return meta_text_of(t ? t->name : NULL);
}

/* For MUTANT_SAME_STREAMS: the last `count` streams up to that one were given out, and their topics are gone. */
static bool streams_unused(const struct meta *m, uint64_t last, uint64_t count) {
    int32_t index;
    for (uint64_t i = 0; i < count; i++) {
        if (last == i || meta_image_topic_of_stream(&m->image, (struct stream_id){last - i}, &index)) return false;
    }
    return true;
}

static enum err plan_create(struct meta *m, struct group *g, struct meta_record *r) {
    if (meta_image_topic(&m->image, r->topic_create.name.data, r->topic_create.name.size)) return ERR_TOPIC_EXISTS;
    uint64_t count = (uint64_t)r->topic_create.partition_count;
    if (g->next_stream > INT64_MAX - count) return ERR_FULL;
    while (meta_image_topic_by_id(&m->image, &r->topic_create.id)) uuid_draw(m->env, &r->topic_create.id);
    r->topic_create.first_stream.v = g->next_stream;
    if (env_mutant(m->env, MUTANT_SAME_STREAMS) && streams_unused(m, g->next_stream - 1, count)) {
        r->topic_create.first_stream.v = g->next_stream - count;
        return OK;
    }
    g->next_stream += count;
    return OK;
}

static enum err plan_partitions_add(struct meta *m, struct group *g, struct meta_record *r, int32_t total) {
    const struct meta_topic *t = meta_image_topic_by_id(&m->image, &r->partitions_add.id);
    if (!t) return ERR_UNKNOWN_TOPIC_ID;
    if (total <= t->partition_count) return ERR_INVALID_PARTITIONS;
    r->partitions_add.before = t->partition_count;
    r->partitions_add.count = total - t->partition_count;
    uint64_t count = (uint64_t)r->partitions_add.count;
    if (g->next_stream > INT64_MAX - count) return ERR_FULL;
    r->partitions_add.first_stream.v = g->next_stream;
    g->next_stream += count;
    return OK;
}

static enum err plan_producer_ids(struct group *g, struct meta_record *r) {
    if (r->producer_ids.count > INT64_MAX - g->next_producer_id) return ERR_FULL;
    r->producer_ids.first = g->next_producer_id;
    g->next_producer_id += r->producer_ids.count;
    return OK;
}

static enum err plan_recovered(struct meta *m, const struct meta_record *r) {
    const struct meta_broker *from = meta_image_broker(&m->image, r->recovered.from);
    if (r->recovered.from.v == m->incarnation.v) return ERR_INVALID;
    return from && !from->retired ? OK : ERR_NOT_FOUND;
}

/* Checks the record against the image, and gives out what it gives out. OK: it will apply. */
static enum err plan(struct meta *m, struct group *g, struct meta_record *r) {
    switch (r->kind) {
    case META_TOPIC_CREATE:
        return plan_create(m, g, r);
    case META_TOPIC_DELETE:
        return meta_image_topic_by_id(&m->image, &r->topic_delete.id) ? OK : ERR_UNKNOWN_TOPIC_ID;
    case META_TOPIC_CONFIGURE:
        return meta_image_topic_by_id(&m->image, &r->topic_configure.id) ? OK : ERR_UNKNOWN_TOPIC_ID;
    case META_RECOVERED:
        return plan_recovered(m, r);
    case META_PRODUCER_IDS:
        return plan_producer_ids(g, r);
    case META_PARTITIONS_ADD:
        return plan_partitions_add(m, g, r, r->partitions_add.before + r->partitions_add.count);
    case META_FORGET_RETIRED:
    case META_BROKER_CONFIGURE:
        return OK;
    case META_REGISTRATION:
        break;
    }
    UNREACHABLE();
}

/* Takes what can go together off the queue. Those that cannot be done at all are done with. */
static void group_form(struct meta *m, struct group *g) {
    LIST_EACH_SAFE(it, &m->pending) {
        struct meta_commit *c = LIST_ENTRY(it, struct meta_commit, link);
        if (!c->record) continue;
        if (g->bytes.size >= META_GROUP_BYTES) break;
        struct meta_text key = touched(m, c->record);
        if (key.size > 0 && mapstr_get(&g->taken, key.data, key.size)) continue;
        enum err e = plan(m, g, c->record);
        if (e != OK) {
            commit_done(c, e);
            continue;
        }
        if (key.size > 0) mapstr_put(&g->taken, key.data, key.size, g);
        meta_record_encode(c->record, &g->bytes);
        list_remove(&c->link);
        list_push_back(&g->commits, &c->link);
        g->count++;
    }
}

static void group_apply(struct meta *m, struct group *g, uint64_t number) {
    uint64_t index = 0;
    LIST_EACH_SAFE(it, &g->commits) {
        struct meta_commit *c = LIST_ENTRY(it, struct meta_commit, link);
        enum err e = meta_image_apply(&m->image, c->record, meta_position(number, index++));
        ASSERT(e == OK);
        commit_done(c, OK);
    }
    ASSERT(m->image.next_stream == g->next_stream && m->image.next_producer_id == g->next_producer_id);
}

/* The log is lost, or its writer was stopped. Everybody who waits is told. */
static void lost(struct meta *m, struct list *group, enum err e) {
    ASSERT(e == ERR_FENCED || e == ERR_CANCELLED);
    if (e == ERR_FENCED && !m->fenced) {
        m->fenced = true;
        log_error(m->env->log, "another controller has taken the cluster over, this broker must stop",
                  "cluster_id=%s incarnation=%" PRIu64 " number=%" PRIu64, m->cluster_id, m->incarnation.v,
                  objlog_durable(m->log));
    }
    m->stopped = true;
    /* What was stopped may have been done all the same; what was still waiting has not. */
    LIST_EACH_SAFE(it, group) {
        commit_done(LIST_ENTRY(it, struct meta_commit, link), e == ERR_FENCED ? ERR_FENCED : ERR_UNKNOWN_OUTCOME);
    }
    LIST_EACH_SAFE(it, &m->pending) {
        commit_done(LIST_ENTRY(it, struct meta_commit, link), e == ERR_FENCED ? ERR_FENCED : ERR_CLOSED);
    }
}

void meta_overtaken(struct meta *m) {
    struct list nobody;
    list_init(&nobody);
    lost(m, &nobody, ERR_FENCED);
}

/* An entry that succeeds proves that nobody was elected before it. */
static enum err append(struct meta *m, enum objlog_kind kind, const struct slice *head, uint64_t *number) {
    struct meta_proof p = meta_proof_begin(m);
    m->appending = true;
    enum err e = objlog_append(m->log, kind, head, NULL, 0, 0, number);
    m->appending = false;
    if (e == OK) meta_proof_found(m, p);
    waitq_wake_all(&m->appended);
    return e;
}

static void after_entry(struct meta *m, uint64_t number, enum objlog_kind kind) {
    meta_entry_note(m, number, kind);
    meta_clean_start(m);
    if (kind == OBJLOG_DATA && meta_snapshot_due(m)) meta_snapshot_start(m);
}

static void group_run(struct meta *m) {
    struct group g;
    group_init(&g, m);
    group_form(m, &g);
    if (g.count > 0) {
        struct slice head = slice_borrow(g.bytes.data, g.bytes.size);
        uint64_t number;
        bool hasty = env_mutant(m->env, MUTANT_COMMIT_EARLY);
        if (hasty) group_apply(m, &g, objlog_next(m->log));
        enum err e = append(m, OBJLOG_DATA, &head, &number);
        if (e == OK) {
            m->records_since += g.count;
            m->bytes_since += g.bytes.size;
            m->entries_since++;
            if (!hasty) group_apply(m, &g, number);
            after_entry(m, number, OBJLOG_DATA);
        } else {
            lost(m, &g.commits, e);
        }
    }
    group_deinit(&g);
}

static void snapshot_run(struct meta *m, struct meta_commit *c) {
    struct buf bytes;
    struct list alone;
    buf_init(&bytes, m->env->mem);
    meta_snapshot_encode(&m->image, &bytes);
    struct slice head = slice_borrow(bytes.data, bytes.size);
    uint64_t number;
    enum err e = append(m, OBJLOG_CHECKPOINT, &head, &number);
    list_remove(&c->link);
    list_init(&alone);
    list_push_back(&alone, &c->link);
    if (e == OK) {
        m->records_since = m->bytes_since = m->entries_since = 0;
        commit_done(c, OK);
        after_entry(m, number, OBJLOG_CHECKPOINT);
    } else {
        lost(m, &alone, e);
    }
    buf_deinit(&bytes);
}

/* Queues the commit and returns when it is done; meanwhile this fiber may have to lead. */
static enum err commit_run(struct meta *m, struct meta_commit *c) {
    CHECK_OBJ(m, META_MAGIC);
    if (m->fenced) return ERR_FENCED;
    if (m->stopped) return ERR_CLOSED;
    waitq_init(&c->changed);
    list_push_back(&m->pending, &c->link);
    if (!m->leading) m->leading = c->leads = true;
    while (!c->done) {
        if (!c->leads) {
            waitq_wait(&c->changed);
        } else if (c->record) {
            /* It is the first in the queue, so its group takes it. */
            ASSERT(m->pending.next == &c->link);
            group_run(m);
            ASSERT(c->done);
        } else {
            snapshot_run(m, c);
        }
    }
    if (c->leads) {
        m->leading = !list_empty(&m->pending);
        if (m->leading) {
            struct meta_commit *next = LIST_ENTRY(m->pending.next, struct meta_commit, link);
            next->leads = true;
            waitq_wake_all(&next->changed);
        } else {
            waitq_wake_all(&m->idle);
        }
    }
    return c->result;
}

enum err meta_commit(struct meta *m, struct meta_record *r) {
    if (m->closing) return m->fenced ? ERR_FENCED : ERR_CLOSED;
    struct meta_commit c = {.record = r};
    return commit_run(m, &c);
}

bool meta_snapshot_due(const struct meta *m) {
    return m->records_since >= META_SNAPSHOT_RECORDS || m->bytes_since >= META_SNAPSHOT_BYTES;
}

static void snapshot_fiber(void *arg) {
    struct meta *m = arg;
    struct meta_commit c = {.record = NULL};
    enum err e = commit_run(m, &c);
    if (e != OK)
        log_info(m->env->log, "no snapshot of the cluster was written", "cluster_id=%s error=%s", m->cluster_id,
                 err_name(e));
    m->snapshotting = false;
    waitq_wake_all(&m->idle);
}

void meta_snapshot_start(struct meta *m) {
    if (m->snapshotting || m->stopped) return;
    m->snapshotting = true;
    fiber_spawn(loop_current(), "meta snapshot", snapshot_fiber, m);
}

void meta_entry_note(struct meta *m, uint64_t number, enum objlog_kind kind) {
    m->entries = mem_grow(m->env->mem, m->entries, m->entry_count, &m->entry_capacity, sizeof(*m->entries));
    m->entries[m->entry_count++] = (struct meta_entry){number, kind == OBJLOG_ELECTION || kind == OBJLOG_FENCE};
}

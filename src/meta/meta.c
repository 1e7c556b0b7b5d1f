/* Opening and closing the cluster, and what it looks like.
 *
 * A start reads the object that names the cluster, replays the cluster log into the image, and puts an election at its
 * end. The election's head holds the registration of this broker: taking office and coming to life are one step, and
 * its position is the incarnation. A snapshot is written when much had to be read, and at an orderly end. */
#include "meta/meta.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/format.h"
#include "meta/meta_priv.h"

/* How long a close waits for a store that does not answer. What is then in flight is resolved by the next start. */
#define CLOSE_PATIENCE_NS (10 * NS_PER_S)

/* --- The replay. */

static enum err refuse(struct meta *m, enum err e, const struct objlog_entry *entry, const struct meta_record *r,
                       const char *why) {
    log_error(m->env->log, "the cluster log was refused",
              "prefix=%s number=%" PRIu64 " record_kind=%u record_version=%u error=%s", m->prefix, entry->header.number,
              r ? (unsigned)r->kind : 0, r ? r->version : 0, err_name(e));
    m->refused = why;
    return e;
}

static enum err records_apply(struct meta *m, const struct objlog_entry *entry) {
    struct reader in = reader_of(entry->head.data, entry->head.size);
    for (uint64_t index = 0; reader_left(&in) > 0; index++) {
        struct meta_record r;
        enum err e = meta_record_decode(&r, m->env->mem, &in);
        if (e == ERR_VERSION) {
            bool kind = (unsigned)r.kind > FORMAT_CLUSTER_RECORD_KIND_NEWEST;
            format_newer(m->env->log, kind ? FORMAT_CLUSTER_RECORD_KIND : FORMAT_CLUSTER_RECORD,
                         kind ? (unsigned)r.kind : r.version, "prefix=%s number=%" PRIu64 " record=%" PRIu64, m->prefix,
                         entry->header.number, index);
            return refuse(
                m, e, entry, &r,
                "the cluster log holds a record of a kind or version that only a newer Oxbow knows (the line above names "
                "it): run that version or a later one on this store");
        }
        if (e == OK) {
            e = meta_image_apply(&m->image, &r, meta_position(entry->header.number, index));
            meta_record_deinit(&r, m->env->mem);
        }
        if (e != OK) {
            return refuse(
                m, e, entry, &r,
                "the cluster log holds a record that does not fit what came before it (the line above names it): the "
                "store was damaged or mixed with another");
        }
        m->records_since++;
    }
    m->bytes_since += entry->head.size;
    return OK;
}

static enum err snapshot_apply(struct meta *m, const struct objlog_entry *entry) {
    struct meta_image image;
    enum err e = meta_snapshot_decode(&image, m->env->mem, entry->head);
    if (e == ERR_VERSION)
        format_newer(m->env->log, FORMAT_CLUSTER_SNAPSHOT,
                     format_found(FORMAT_CLUSTER_SNAPSHOT, entry->head.data, entry->head.size),
                     "prefix=%s number=%" PRIu64, m->prefix, entry->header.number);
    if (e != OK) {
        return refuse(
            m, e, entry, NULL,
            e == ERR_VERSION
                ? "the cluster log's snapshot was written by a newer Oxbow: run that version or a later one on this store"
                : "the cluster log's snapshot is damaged: the store was damaged or mixed with another");
    }
    meta_image_deinit(&m->image);
    m->image = image;
    m->image.mutant = m->env->mutant;
    m->records_since = m->bytes_since = m->entries_since = 0;
    return OK;
}

static enum err replay_apply(void *ctx, const struct objlog_entry *entry) {
    struct meta *m = ctx;
    const struct objlog_header *h = &entry->header;
    if (m->entry_count == 0) m->first_entry = h->number;
    meta_entry_note(m, h->number, h->kind);
    m->entries_since++;
    switch (h->kind) {
    case OBJLOG_CHECKPOINT:
        return snapshot_apply(m, entry);
    case OBJLOG_ELECTION:
    case OBJLOG_DATA:
        return records_apply(m, entry);
    case OBJLOG_FENCE:
        return OK;
    }
    UNREACHABLE();
}

static void replay_reset(void *ctx) {
    struct meta *m = ctx;
    meta_image_deinit(&m->image);
    meta_image_init(&m->image, m->env->mem);
    m->image.mutant = m->env->mutant;
    m->entry_count = 0;
    m->first_entry = 0;
    m->records_since = m->bytes_since = m->entries_since = 0;
}

/* --- Open and close. */

/* Puts the election, with the registration in it, at the end of the log. */
static enum err office_take(struct meta *m, const struct objlog_replay *replay, const struct meta_options *o) {
    struct meta_record r = {.kind = META_REGISTRATION,
                            .registration = {o->node_id, meta_text_of(o->rack), meta_text_of(o->endpoint)}};
    struct buf bytes;
    buf_init(&bytes, m->env->mem);
    meta_record_encode(&r, &bytes);
    struct slice head = slice_borrow(bytes.data, bytes.size);
    uint64_t number;
    bool mine;
    enum err e = objlog_take_over(m->log, OBJLOG_ELECTION, replay, &head, &number, &mine);
    if (e == OK) {
        ASSERT(mine);
        m->incarnation = meta_position(number, 0);
        e = meta_image_apply(&m->image, &r, m->incarnation);
        ASSERT(e == OK); /* nothing that was replayed has a position as high */
        if (m->entry_count == 0) m->first_entry = number;
        meta_entry_note(m, number, OBJLOG_ELECTION);
        m->records_since++;
        m->bytes_since += bytes.size;
    }
    buf_deinit(&bytes);
    return e;
}

static void meta_free(struct meta *m) {
    struct mem *mem = m->env->mem;
    objlog_destroy(m->log);
    meta_image_deinit(&m->image);
    mem_free(mem, m->entries);
    m->magic = 0;
    mem_free(mem, m);
}

static void give_up(struct timer *t);

static struct meta *meta_make(const struct meta_options *o) {
    struct meta *m = MEM_NEW(o->env->mem, struct meta);
    INIT_OBJ(m, META_MAGIC);
    m->env = o->env;
    m->store = o->store;
    m->node_id = o->node_id;
    list_init(&m->pending);
    waitq_init(&m->idle);
    waitq_init(&m->appended);
    waitq_init(&m->looked);
    timer_init(&m->give_up, give_up);
    meta_image_init(&m->image, o->env->mem);
    m->image.mutant = o->env->mutant;
    return m;
}

static enum err log_open(struct meta *m, const struct meta_options *o, const char **why) {
    snprintf(m->prefix, sizeof(m->prefix), "%s/cluster", m->generation);
    m->log = objlog_create(
        &(struct objlog_options){.store = o->store, .prefix = m->prefix, .depth = 1, .purpose = STORE_FOR_CLUSTER_LOG});
    struct objlog_replay replay = {replay_apply, replay_reset, m};
    enum err e = objlog_recover(m->log, &replay);
    uint64_t read = m->entries_since;
    if (e == OK || e == ERR_NOT_FOUND) e = office_take(m, &replay, o);
    if (e == OK) {
        m->listed = m->first_entry == 0;
        log_info(m->env->log, "cluster opened",
                 "cluster_id=%s generation=%s incarnation=%" PRIu64 " topics=%zu brokers=%zu entries_read=%" PRIu64,
                 m->cluster_id, m->generation, m->incarnation.v, m->image.topic_count, m->image.broker_count, read);
        return OK;
    }
    if (m->refused) {
        *why = m->refused;
    } else if (e == ERR_FENCED) {
        *why =
            "another broker took the cluster over while this one was starting: stop the other, or start this one again";
    } else if (e == ERR_VERSION) {
        *why =
            "the cluster log was written by a newer version of Oxbow (a line above has the versions): run that version "
            "or a later one on this store";
    } else {
        *why = "the cluster log cannot be read (the line above names the object)";
    }
    return e;
}

enum err meta_open(const struct meta_options *o, struct meta **out, const char **why) {
    ASSERT(o->store->magic == STORE_MAGIC && o->env->magic == ENV_MAGIC);
    struct meta *m = meta_make(o);
    *out = NULL;
    *why = "";
    enum err e = meta_cluster_open(m, why);
    if (e == OK) e = log_open(m, o, why);
    if (e != OK) {
        meta_free(m);
        return e;
    }
    meta_clean_start(m);
    if (meta_snapshot_due(m) || m->entries_since >= META_SNAPSHOT_ENTRIES) meta_snapshot_start(m);
    *out = m;
    return OK;
}

static void give_up(struct timer *t) {
    struct meta *m = CONTAINER_OF(t, struct meta, give_up);
    bool waits = m->closing || m->leading || m->snapshotting;
    if (m->stopping_seen != objlog_durable(m->log) || !waits) {
        m->stopping_seen = objlog_durable(m->log);
        timer_arm(t, env_now_ns(m->env) + CLOSE_PATIENCE_NS);
        return;
    }
    objlog_stop(m->log);
}

void meta_stopping(struct meta *m) {
    CHECK_OBJ(m, META_MAGIC);
    m->stopping_seen = objlog_durable(m->log);
    timer_arm(&m->give_up, env_now_ns(m->env) + CLOSE_PATIENCE_NS);
}

static void wait_idle(struct meta *m) {
    while (m->leading || m->snapshotting || m->cleaning || m->looking) waitq_wait(&m->idle);
}

void meta_close(struct meta *m) {
    if (!m) return;
    CHECK_OBJ(m, META_MAGIC);
    ASSERT(!m->closing);
    m->closing = true;
    meta_stopping(m);
    wait_idle(m);
    if (m->records_since > 0) meta_snapshot_start(m);
    wait_idle(m);
    timer_disarm(&m->give_up);
    ASSERT(list_empty(&m->pending));
    meta_free(m);
}

/* --- What the cluster looks like. */

const char *meta_generation(const struct meta *m) {
    return m->generation;
}

const char *meta_cluster_id(const struct meta *m) {
    return m->cluster_id;
}

struct incarnation meta_incarnation(const struct meta *m) {
    return m->incarnation;
}

size_t meta_unrecovered(const struct meta *m, struct meta_broker *out, size_t max) {
    size_t count = 0;
    for (size_t k = 0; k < m->image.broker_count; k++) {
        const struct meta_broker *b = &m->image.brokers[k];
        if (b->retired || b->incarnation.v == m->incarnation.v) continue;
        if (count < max) out[count] = *b;
        count++;
    }
    return count;
}

const struct meta_topic *meta_topic_by_name(const struct meta *m, const char *name, size_t name_size) {
    return meta_image_topic(&m->image, name, name_size);
}

const struct meta_topic *meta_topic_by_id(const struct meta *m, const struct uuid *id) {
    return meta_image_topic_by_id(&m->image, id);
}

const struct meta_topic *meta_topic_next(const struct meta *m, size_t *cursor) {
    return *cursor < m->image.topic_count ? m->image.topics[(*cursor)++] : NULL;
}

size_t meta_topic_count(const struct meta *m) {
    return m->image.topic_count;
}

const struct meta_topic *meta_topic_of_stream(const struct meta *m, struct stream_id s, int32_t *partition) {
    return meta_image_topic_of_stream(&m->image, s, partition);
}

const char *meta_topic_config(const struct meta_topic *t, const char *name) {
    for (size_t k = 0; k < t->config_count; k++) {
        if (strcmp(t->configs[k].name, name) == 0) return t->configs[k].value;
    }
    return NULL;
}

const struct meta_config *meta_broker_configs(const struct meta *m, int32_t node_id, size_t *count) {
    const struct meta_broker_configs *b = meta_image_broker_configs(&m->image, node_id);
    *count = b ? b->config_count : 0;
    return b ? b->configs : NULL;
}

/* --- Commits. */

/* The caller's changes as a record has them; NULL when there are none. */
static struct meta_change *changes_of(struct meta *m, const struct meta_config *configs, size_t count) {
    if (count == 0) return NULL;
    struct meta_change *changes = mem_zalloc(m->env->mem, count * sizeof(*changes));
    for (size_t k = 0; k < count; k++) {
        changes[k] = (struct meta_change){meta_text_of(configs[k].name), meta_text_of(configs[k].value),
                                          configs[k].value == NULL};
    }
    return changes;
}

static bool configs_valid(const struct meta_config *configs, size_t count, bool creates) {
    for (size_t k = 0; k < count; k++) {
        if (!configs[k].name || configs[k].name[0] == '\0' || (creates && !configs[k].value)) return false;
        for (size_t j = 0; creates && j < k; j++) {
            if (strcmp(configs[j].name, configs[k].name) == 0) return false;
        }
    }
    return true;
}

enum err meta_topic_create(struct meta *m, const char *name, int32_t partition_count, int16_t replication_factor,
                           const struct meta_config *configs, size_t config_count, struct uuid *id) {
    CHECK_OBJ(m, META_MAGIC);
    if (!meta_topic_name_valid(name, strlen(name))) return ERR_INVALID_TOPIC;
    if (partition_count < 1 || partition_count > META_TOPIC_PARTITIONS_MAX) return ERR_INVALID_PARTITIONS;
    if (replication_factor < 1) return ERR_INVALID_REPLICATION_FACTOR;
    if (!configs_valid(configs, config_count, true)) return ERR_INVALID_CONFIG;
    struct meta_record r = {
        .kind = META_TOPIC_CREATE, .changes = changes_of(m, configs, config_count), .change_count = config_count};
    uuid_draw(m->env, &r.topic_create.id);
    r.topic_create.name = meta_text_of(name);
    r.topic_create.replication_factor = replication_factor;
    r.topic_create.partition_count = partition_count;
    r.topic_create.owner = m->incarnation;
    r.topic_create.owner_node = m->node_id;
    enum err e = meta_commit(m, &r);
    if (e == OK) *id = r.topic_create.id;
    mem_free(m->env->mem, r.changes);
    return e;
}

enum err meta_topic_delete(struct meta *m, const struct uuid *id) {
    struct meta_record r = {.kind = META_TOPIC_DELETE, .topic_delete = {*id}};
    return meta_commit(m, &r);
}

enum err meta_topic_configure(struct meta *m, const struct uuid *id, const struct meta_config *changes, size_t count) {
    if (!configs_valid(changes, count, false)) return ERR_INVALID_CONFIG;
    struct meta_record r = {.kind = META_TOPIC_CONFIGURE, .change_count = count};
    r.topic_configure.id = *id;
    r.changes = changes_of(m, changes, count);
    enum err e = meta_commit(m, &r);
    mem_free(m->env->mem, r.changes);
    return e;
}

enum err meta_partitions_add(struct meta *m, const struct uuid *id, int32_t total) {
    if (total < 1 || total > META_TOPIC_PARTITIONS_MAX) return ERR_INVALID_PARTITIONS;
    struct meta_record r = {.kind = META_PARTITIONS_ADD};
    r.partitions_add.id = *id;
    r.partitions_add.count = total; /* how many of them are new is known when its turn has come */
    r.partitions_add.owner = m->incarnation;
    r.partitions_add.owner_node = m->node_id;
    return meta_commit(m, &r);
}

enum err meta_broker_configure(struct meta *m, int32_t node_id, const struct meta_config *changes, size_t count) {
    ASSERT(node_id >= META_ALL_BROKERS);
    if (!configs_valid(changes, count, false)) return ERR_INVALID_CONFIG;
    struct meta_record r = {.kind = META_BROKER_CONFIGURE, .change_count = count};
    r.broker_configure.node_id = node_id;
    r.changes = changes_of(m, changes, count);
    enum err e = meta_commit(m, &r);
    mem_free(m->env->mem, r.changes);
    return e;
}

enum err meta_recovered(struct meta *m, struct incarnation from, uint64_t state_entry) {
    struct meta_record r = {.kind = META_RECOVERED, .recovered = {from, m->incarnation, m->node_id, state_entry}};
    return meta_commit(m, &r);
}

enum err meta_producer_ids(struct meta *m, uint32_t count, int64_t *first) {
    if (count == 0) return ERR_INVALID;
    struct meta_record r = {.kind = META_PRODUCER_IDS, .producer_ids = {0, count}};
    enum err e = meta_commit(m, &r);
    if (e == OK) *first = (int64_t)r.producer_ids.first;
    return e;
}

enum err meta_forget_retired(struct meta *m, struct incarnation oldest_needed) {
    bool any = false;
    for (size_t k = 0; k < m->image.broker_count; k++) {
        any |= m->image.brokers[k].retired && m->image.brokers[k].incarnation.v < oldest_needed.v;
    }
    if (!any) return m->fenced ? ERR_FENCED : OK; /* nothing to write */
    struct meta_record r = {.kind = META_FORGET_RETIRED, .forget_retired = {oldest_needed}};
    return meta_commit(m, &r);
}

#include "broker/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/dynamic.h"
#include "broker/memory.h"
#include "broker/url.h"

#define DRAIN_NS (10 * NS_PER_S)
#define PARTITIONS_SAID_EVERY_MS 60000
#define OFFICE_PATIENCE_NS (3 * NS_PER_S) /* with a store that does not say whether another has been elected */

/* --- Small things others ask for. */

bool broker_ready(const struct broker *b) {
    return atomic_load(&b->ready);
}
int32_t broker_node_id(const struct broker *b) {
    return b->config->node_id;
}
uint64_t broker_incarnation(const struct broker *b) {
    return b->incarnation;
}
const char *broker_cluster_id(const struct broker *b) {
    return b->cluster_id;
}
unsigned broker_shards(const struct broker *b) {
    return b->shard_count;
}
size_t broker_listeners(const struct broker *b) {
    return b->listener_count;
}

const char *broker_listener_text(const struct broker *b, size_t i, char *out, size_t out_size) {
    ASSERT(i < b->listener_count);
    const struct listener *l = &b->listeners[i];
    bool v6 = strchr(l->host, ':') != NULL;
    (void)snprintf(out, out_size, "%s://%s%s%s:%u", l->name, v6 ? "[" : "", l->host, v6 ? "]" : "", l->port);
    return out;
}

const char *listener_host(const struct request *r) {
    return r->listener->advertised_host[0] ? r->listener->advertised_host : r->local.host;
}
uint16_t listener_port(const struct request *r) {
    return r->listener->advertised_port;
}

/* --- Telling every shard of a change. */

struct publication {
    struct mail mail;
    struct broker *broker;
    struct shard *shard;
    struct topic_route *route; /* NULL: the topic is gone */
    struct uuid id;
    struct waitgroup *done;
};

static void publication_returned(struct mail *m) {
    struct publication *p = CONTAINER_OF(m, struct publication, mail);
    waitgroup_done(p->done);
    mem_free(p->broker->env->mem, p);
}

static void publication_arrived(struct mail *m) {
    struct publication *p = CONTAINER_OF(m, struct publication, mail);
    if (p->route) {
        shard_topic_changed(p->shard, p->route);
    } else {
        shard_topic_removed(p->shard, &p->id);
    }
    p->mail.deliver = publication_returned;
    loop_post(p->broker->o.loop0, &p->mail);
}

/* Mails the topic as the image has it now to all shards. The mail leaves before anything can suspend, so that shards
 * learn of changes in the order of the cluster log. */
static void broker_publish(struct broker *b, const struct uuid *id, struct waitgroup *done) {
    const struct meta_topic *t = meta_topic_by_id(b->meta, id);
    struct topic_route *route = t ? topic_route_create(b->env->mem, t, &b->topic_defaults, b->shard_count) : NULL;
    for (unsigned i = 0; i < b->shard_count; i++) {
        struct publication *p = MEM_NEW(b->env->mem, struct publication);
        *p = (struct publication){
            .mail = {NULL, publication_arrived}, .broker = b, .shard = &b->shards[i], .id = *id, .done = done};
        if (route) p->route = topic_route_ref(route);
        waitgroup_add(done);
        loop_post(b->loops[i], &p->mail);
    }
    topic_route_unref(route);
}

static void broker_publish_and_wait(struct broker *b, const struct uuid *id) {
    struct waitgroup done;
    waitgroup_init(&done);
    broker_publish(b, id, &done);
    waitgroup_wait(&done);
}

enum err broker_checked(struct broker *b, enum err e) {
    if (e == ERR_FENCED) b->o.fatal(b->o.ctx, e, "another broker has taken over the cluster log");
    return e;
}

/* --- The freshness lease. */

bool broker_office_known(const struct broker *b, uint64_t after_ns) {
    return b->o.store->exclusive || atomic_load(&b->office_ns) > after_ns || env_mutant(b->env, MUTANT_ACCUSE_STALE);
}

struct confirmation {
    struct broker *broker;
    uint64_t after_ns;
    enum err err;
};

static void confirm_there(void *arg) {
    struct confirmation *c = arg;
    struct broker *b = c->broker;
    uint64_t as_of_ns, deadline_ns = env_now_ns(b->env) + OFFICE_PATIENCE_NS;
    c->err = broker_checked(b, meta_confirm(b->meta, c->after_ns, deadline_ns, &as_of_ns));
    if (c->err == OK && as_of_ns > atomic_load(&b->office_ns)) atomic_store(&b->office_ns, as_of_ns);
}

enum err broker_confirm_office(struct broker *b, uint64_t after_ns) {
    if (broker_office_known(b, after_ns)) return OK;
    struct confirmation c = {b, after_ns, OK};
    loop_call(b->o.loop0, confirm_there, &c);
    return c.err;
}

int64_t broker_partitions_there(const struct broker *b) {
    int64_t count = 0;
    const struct meta_topic *t;
    for (size_t cursor = 0; (t = meta_topic_next(b->meta, &cursor)) != NULL;) count += t->partition_count;
    return count;
}

bool broker_has_room_for(struct broker *b, int64_t partitions) {
    int64_t limit = atomic_load_explicit(&b->env->metrics->memory_limits[MEMORY_PARTITIONS], memory_order_relaxed);
    if (limit == 0 || partitions <= limit / PARTITION_BYTES) return true;
    if (log_due(&b->partitions_said_ms, (int64_t)(env_now_ns(b->env) / NS_PER_MS), PARTITIONS_SAID_EVERY_MS))
        log_warn(b->env->log, "a topic or partition was not created: half of state.bytes holds no more",
                 "partitions=%" PRId64 " limit=%" PRId64, partitions, limit / PARTITION_BYTES);
    return false;
}

enum err broker_create_topic(struct broker *b, const struct topic_wish *wish, struct uuid *id) {
    enum err e = broker_checked(b, meta_topic_create(b->meta, wish->name, wish->partition_count,
                                                     wish->replication_factor, wish->configs, wish->config_count, id));
    if (e == OK) broker_publish_and_wait(b, id);
    return e;
}

enum err broker_configure_topic(struct broker *b, const struct uuid *id, const struct meta_config *changes,
                                size_t count) {
    enum err e = broker_checked(b, meta_topic_configure(b->meta, id, changes, count));
    if (e == OK) broker_publish_and_wait(b, id);
    return e;
}

enum err broker_add_partitions(struct broker *b, const struct uuid *id, int32_t total) {
    enum err e = broker_checked(b, meta_partitions_add(b->meta, id, total));
    if (e == OK) broker_publish_and_wait(b, id);
    return e;
}

enum err broker_configure_self(struct broker *b, int32_t node_id, const struct meta_config *changes, size_t count) {
    enum err e = broker_checked(b, meta_broker_configure(b->meta, node_id, changes, count));
    if (e == OK) dynamic_apply(b);
    return e;
}

struct close_stream {
    struct shard *shard;
    struct stream_id stream;
};

static void close_stream_there(void *arg) {
    const struct close_stream *c = arg;
    shard_close_stream(c->shard, c->stream);
}

enum err broker_delete_topic(struct broker *b, const struct uuid *id) {
    const struct meta_topic *t = meta_topic_by_id(b->meta, id);
    if (!t) return ERR_UNKNOWN_TOPIC_ID;
    struct topic_route *old = topic_route_create(b->env->mem, t, &b->topic_defaults, b->shard_count);
    enum err e = broker_checked(b, meta_topic_delete(b->meta, id));
    if (e == OK) {
        broker_publish_and_wait(b, id);
        for (int32_t i = 0; i < old->partition_count; i++) {
            struct close_stream c = {&b->shards[old->partitions[i].shard], old->partitions[i].stream};
            loop_call(c.shard->loop, close_stream_there, &c);
            streams_drop(b->streams, c.stream);
        }
    }
    topic_route_unref(old);
    return e;
}

enum err broker_new_producer_id(struct broker *b, int64_t *id) {
    enum err e = OK;
    fiber_mutex_lock(&b->producer_ids_lock);
    if (b->next_producer_id == b->producer_ids_end) {
        int64_t first = 0;
        e = broker_checked(b, meta_producer_ids(b->meta, BROKER_PRODUCER_IDS, &first));
        if (e == OK) {
            b->next_producer_id = env_mutant(b->env, MUTANT_PRODUCER_TWICE) ? 0 : first;
            b->producer_ids_end = b->next_producer_id + BROKER_PRODUCER_IDS;
        }
    }
    if (e == OK) *id = b->next_producer_id++;
    fiber_mutex_unlock(&b->producer_ids_lock);
    return e;
}

/* --- Counting topics. */

static int count_compare(const void *a, const void *b) {
    return strcmp(((const struct broker_topic_count *)a)->name, ((const struct broker_topic_count *)b)->name);
}

struct count_job {
    struct shard *shard;
    struct shard_topic_count *items;
    size_t count, capacity;
};

static void count_there(void *arg) {
    struct count_job *j = arg;
    shard_count_topics(j->shard, &j->items, &j->count, &j->capacity);
}

void broker_topic_counts(struct broker *b, struct broker_topic_count **out, size_t *count) {
    struct count_job j = {0};
    for (unsigned i = 0; i < b->shard_count; i++) {
        j.shard = &b->shards[i];
        loop_call(b->loops[i], count_there, &j);
    }
    struct broker_topic_count *list = mem_zalloc(b->env->mem, (j.count + 1) * sizeof(*list));
    for (size_t i = 0; i < j.count; i++) {
        const struct shard_topic_count *s = &j.items[i];
        list[i] = (struct broker_topic_count){s->name,       s->bytes_in,   s->bytes_out,
                                              s->records_in, s->size_bytes, s->partitions};
    }
    mem_free(b->env->mem, j.items);
    qsort(list, j.count, sizeof(*list), count_compare);
    size_t n = 0; /* Several shards have the same topic. */
    for (size_t i = 0; i < j.count; i++) {
        if (n > 0 && strcmp(list[n - 1].name, list[i].name) == 0) {
            list[n - 1].bytes_in += list[i].bytes_in;
            list[n - 1].bytes_out += list[i].bytes_out;
            list[n - 1].records_in += list[i].records_in;
            list[n - 1].size_bytes += list[i].size_bytes;
            list[n - 1].partitions += list[i].partitions;
            mem_free(b->env->mem, list[i].name);
        } else {
            list[n++] = list[i];
        }
    }
    *out = list;
    *count = n;
}

void broker_topic_counts_free(struct broker *b, struct broker_topic_count *items, size_t count) {
    for (size_t i = 0; i < count; i++) mem_free(b->env->mem, items[i].name);
    mem_free(b->env->mem, items);
}

/* --- Start. */

static const char *why_of(struct broker *b, const char *what, const char *detail) {
    (void)snprintf(b->o.why_text, b->o.why_size, "%s: %s", what, detail);
    return b->o.why_text;
}

static enum err broker_parse_listeners(struct broker *b, const char **why) {
    char item[512], text[CONFIG_WHY_SIZE];
    struct listener_url u;
    for (const char *cursor = b->config->listeners; config_list_next(&cursor, item, sizeof(item));) {
        if (b->listener_count == SHARD_LISTENERS_MAX) {
            *why = "listeners: expected at most 16 of them";
            return ERR_INVALID;
        }
        if (listener_url_parse(item, &u, text, sizeof(text)) != OK) {
            *why = why_of(b, "listeners", text);
            return ERR_INVALID;
        }
        struct listener *l = &b->listeners[b->listener_count++];
        (void)snprintf(l->name, sizeof(l->name), "%s", u.name);
        (void)snprintf(l->host, sizeof(l->host), "%s", u.host);
        (void)snprintf(l->advertised_host, sizeof(l->advertised_host), "%s", u.host);
        l->port = u.port;
        l->advertised_port = u.port;
    }
    for (const char *cursor = b->config->advertised_listeners; config_list_next(&cursor, item, sizeof(item));) {
        if (listener_url_parse(item, &u, text, sizeof(text)) != OK) {
            *why = why_of(b, "advertised.listeners", text);
            return ERR_INVALID;
        }
        for (size_t i = 0; i < b->listener_count; i++) {
            struct listener *l = &b->listeners[i];
            if (strcmp(l->name, u.name) != 0) continue;
            (void)snprintf(l->advertised_host, sizeof(l->advertised_host), "%s", u.host);
            l->advertised_port = u.port;
        }
    }
    return OK;
}

static enum err broker_parse_wal(struct broker *b, struct wal_setup *wal, const char **why) {
    char text[CONFIG_WHY_SIZE];
    if (wal_setup_parse(b->config->wal_url, wal, text, sizeof(text)) == OK) return OK;
    *why = why_of(b, "wal.url", text);
    return ERR_INVALID;
}

/* members: room for WAL_MIRROR_MAX, borrowed by the options as long as `wal` is. */
static void broker_set_wal(struct streams_options *o, const struct wal_setup *wal, struct stream_wal_member *members) {
    _Static_assert(WAL_MIRROR_MAX == WAL_MEMBERS_MAX, "a mirror of wal.url fits");
    for (unsigned i = 0; i < wal->count; i++) {
        const struct wal_url *u = &wal->urls[i];
        members[i] = (struct stream_wal_member){.path = u->path,
                                                .objects = u->kind == WAL_KIND_OBJECTS,
                                                .size_bytes = u->kind == WAL_KIND_FILE ? u->size_bytes : 0,
                                                .takeover_mark = u->takeover == WAL_TAKEOVER_MARK};
    }
    o->wal_mirror_timeout_ms = wal->timeout_ms;
    o->wal_mirror_stops = wal->stops;
    if (wal->mirror) {
        o->wal_members = members;
        o->wal_member_count = wal->count;
    } else if (wal->count > 0) {
        o->wal_path = wal->urls[0].path;
        o->wal_size_bytes = wal->urls[0].size_bytes;
        o->wal_takeover_mark = members[0].takeover_mark;
    }
}

static enum err broker_open_streams(struct broker *b, const char **why) {
    struct wal_setup wal;
    struct stream_wal_member members[WAL_MIRROR_MAX];
    enum err e = broker_parse_wal(b, &wal, why);
    if (e != OK) return e;
    const struct config *c = b->config;
    struct streams_options o = {
        .env = b->env,
        .store = b->o.store,
        .generation = meta_generation(b->meta),
        .incarnation = meta_incarnation(b->meta),
        .broker_id = b->config->node_id,
        .cache_log_bytes = (uint64_t)c->cache_log_bytes,
        .cache_block_bytes = (uint64_t)c->cache_block_bytes,
        .read_ahead_bytes = (uint64_t)c->read_ahead_bytes,
        .read_gets_max = (unsigned)c->read_requests_max,
        .compact_bytes = (uint64_t)c->compaction_bytes,
        .upload_bytes = (uint64_t)c->upload_bytes,
        .upload_interval_ms = (uint32_t)c->upload_interval_ms,
        .upload_wal_percent = (uint32_t)c->upload_wal_percent,
        .object_flush_interval_ms = (uint32_t)c->object_flush_interval_ms,
        .checkpoint_entries = 128,
        .checkpoint_interval_ms = (uint32_t)(c->checkpoint_interval_ms < UINT32_MAX ? c->checkpoint_interval_ms : 0),
        .producer_expiration_ms = atomic_load(&b->producer_expiration_ms),
        .shards = b->loops,
        .shard_count = b->shard_count,
        .log_loop = b->o.loop0,
        .open_store = b->o.open_store,
        .open_ctx = b->o.ctx,
        .fatal = b->o.fatal,
        .ctx = b->o.ctx,
    };
    broker_set_wal(&o, &wal, members);
    return streams_open(&o, &b->streams, why);
}

struct recovery {
    const struct broker *broker;
    struct incarnation dead;
};

/* Does the dead incarnation own this stream still, and in which epoch? */
static bool recovery_is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    const struct recovery *r = ctx;
    int32_t index;
    const struct meta_topic *t = meta_topic_of_stream(r->broker->meta, id, &index);
    if (!t || t->partitions[index].owner.v != r->dead.v) return false;
    *epoch = t->partitions[index].epoch;
    return true;
}

static enum err broker_recover(struct broker *b, const char **why) {
    struct meta_broker dead;
    while (meta_unrecovered(b->meta, &dead, 1) > 0) {
        struct recovery r = {b, dead.incarnation};
        uint64_t began = env_now_ns(b->env), entry = 0;
        uint64_t v = dead.incarnation.v;
        enum err e = streams_recover(b->streams, r.dead, recovery_is_current, &r, &entry, why);
        if (e != OK) return e;
        e = meta_recovered(b->meta, r.dead, entry);
        if (e != OK) {
            *why = "the result of the recovery could not be written to the cluster log";
            return e;
        }
        log_info(b->env->log, "incarnation recovered", "incarnation=%" PRIu64 " state_entry=%" PRIu64 " ms=%" PRIu64, v,
                 entry, (uint64_t)((env_now_ns(b->env) - began) / NS_PER_MS));
    }
    return streams_start(b->streams, why);
}

static enum err broker_make_shards(struct broker *b, const char **why) {
    b->shard_count = memory_shards(b->config, b->o.processors);
    memory_publish(b->env->metrics, b->config, b->shard_count);
    b->shards = mem_zalloc(b->env->mem, b->shard_count * sizeof(*b->shards));
    b->loops = mem_zalloc(b->env->mem, b->shard_count * sizeof(struct loop *));
    for (unsigned i = 0; i < b->shard_count; i++) {
        b->loops[i] = b->o.loop0;
        enum err e = i > 0 ? env_loop_start(b->env, "shard", &b->loops[i]) : OK;
        if (e != OK) {
            *why = "a thread for a shard cannot be started";
            b->shard_count = i;
            return e;
        }
        broker_shard_init(&b->shards[i], b, i, b->loops[i]);
    }
    return OK;
}

struct listen_job {
    struct shard *shard;
    bool reuse_port;
    enum err err;
    const char *which;
};

static void listen_there(void *arg) {
    struct listen_job *j = arg;
    j->err = shard_listen(j->shard, j->reuse_port, &j->which);
    if (j->err == OK) shard_warm_up(j->shard);
}

/* The sentence for listener i that cannot be had. */
static const char *why_not_listening(struct broker *b, size_t i, enum err e) {
    char text[400];
    broker_listener_text(b, i, text, sizeof(text));
    const char *reason = e == ERR_UNAVAILABLE ? "the address is in use, or not one of this machine's" : err_text(e);
    (void)snprintf(b->o.why_text, b->o.why_size, "cannot listen on %s: %s", text, reason);
    return b->o.why_text;
}

static enum err broker_listen(struct broker *b, const char **why) {
    for (unsigned i = 0; i < b->shard_count; i++) {
        struct listen_job j = {.shard = &b->shards[i], .reuse_port = b->shard_count > 1};
        loop_call(b->loops[i], listen_there, &j);
        if (j.err == OK) continue;
        size_t n = 0;
        while (strcmp(b->listeners[n].name, j.which) != 0) n++;
        *why = why_not_listening(b, n, j.err);
        return j.err;
    }
    return OK;
}

/* Opening the cluster log takes the cluster away from whoever holds it. What this start needs and another process has
 * is noticed before that: a broker that is started twice by mistake must not end the one that serves. */
static enum err broker_check_alone(struct broker *b, const char **why) {
    struct wal_setup wal;
    struct stream_wal_member members[WAL_MIRROR_MAX];
    enum err e = broker_parse_wal(b, &wal, why);
    if (e != OK) return e;
    struct streams_options o = {.env = b->env, .store = b->o.store};
    broker_set_wal(&o, &wal, members);
    e = streams_check_wal(&o, why);
    for (size_t i = 0; e == OK && i < b->listener_count; i++) {
        const struct listener *l = &b->listeners[i];
        struct env_listener *probe;
        struct env_address bound;
        e = env_listen(b->env, l->host, l->port, false, NULL, NULL, &probe, &bound);
        if (e == OK)
            env_listener_close(b->env, probe);
        else
            *why = why_not_listening(b, i, e);
    }
    return e;
}

void broker_publish_all(struct broker *b) {
    struct waitgroup done;
    waitgroup_init(&done);
    const struct meta_topic *t;
    for (size_t cursor = 0; (t = meta_topic_next(b->meta, &cursor)) != NULL;) broker_publish(b, &t->id, &done);
    waitgroup_wait(&done);
}

static void shard_stop_there(void *arg) {
    shard_close_clients(arg, DRAIN_NS);
}
static void shard_close_there(void *arg) {
    shard_close_partitions(arg);
    broker_shard_deinit(arg);
}

struct drain {
    struct shard *shard;
    struct waitgroup *done;
};
static void drain_main(void *arg) {
    struct drain *d = arg;
    loop_call(d->shard->loop, shard_stop_there, d->shard);
    waitgroup_done(d->done);
}

/* Also what a failed start undoes. Shards drain at the same time. */
static void broker_close(struct broker *b) {
    atomic_store(&b->ready, false);
    broker_tidy_stop(b);
    /* What is under way may wait for a store that is gone. */
    if (b->streams) streams_stopping(b->streams);
    if (b->meta) meta_stopping(b->meta);
    struct waitgroup done;
    waitgroup_init(&done);
    struct drain *drains = mem_zalloc(b->env->mem, (b->shard_count + 1) * sizeof(*drains));
    for (unsigned i = 0; i < b->shard_count; i++) {
        drains[i] = (struct drain){&b->shards[i], &done};
        waitgroup_add(&done);
        fiber_spawn(b->o.loop0, "drain", drain_main, &drains[i]);
    }
    waitgroup_wait(&done);
    mem_free(b->env->mem, drains);
    waitgroup_wait(&b->background);
    for (unsigned i = 0; i < b->shard_count; i++) loop_call(b->loops[i], shard_close_there, &b->shards[i]);
    if (b->streams) streams_close(b->streams);
    if (b->meta) meta_close(b->meta);
    for (unsigned i = 1; i < b->shard_count; i++) loop_stop(b->loops[i]);
    conn_quota_deinit(&b->quota);
    config_deinit(&b->config_defaults);
    mem_free(b->env->mem, b->shards);
    mem_free(b->env->mem, b->loops);
    mem_free(b->env->mem, b->cluster_id);
    b->magic = 0;
    mem_free(b->env->mem, b);
}

static enum err broker_open(struct broker *b, const char **why) {
    enum err e = broker_parse_listeners(b, why);
    if (e != OK) return e;
    e = broker_make_shards(b, why);
    if (e == OK) e = broker_check_alone(b, why);
    if (e != OK) return e;
    e = meta_open(
        &(struct meta_options){
            .env = b->env, .store = b->o.store, .node_id = b->config->node_id, .rack = b->config->broker_rack},
        &b->meta, why);
    if (e != OK) return e;
    b->cluster_id = mem_strdup(b->env->mem, meta_cluster_id(b->meta));
    b->incarnation = meta_incarnation(b->meta).v;
    dynamic_apply(b);
    e = broker_open_streams(b, why);
    if (e == OK) e = broker_recover(b, why);
    if (e != OK) return e;
    broker_publish_all(b);
    e = broker_listen(b, why);
    if (e != OK) return e;
    atomic_store(&b->ready, true);
    broker_tidy_begin(b);
    broker_clean_begin(b);
    return OK;
}

enum err broker_start(const struct broker_options *o, struct broker **out, const char **why) {
    ASSERT(o->loop0 == loop_current() && o->fatal && o->why_size > 0);
    struct broker *b = MEM_NEW(o->env->mem, struct broker);
    INIT_OBJ(b, BROKER_MAGIC);
    b->o = *o;
    b->env = o->env;
    b->config = o->config;
    config_init_defaults(&b->config_defaults, b->env->mem);
    conn_quota_init(&b->quota, o->env->mem, (uint32_t)o->config->max_connections,
                    (uint32_t)o->config->max_connections_per_ip);
    waitgroup_init(&b->background);
    waitq_init(&b->tidy_stop);
    fiber_mutex_init(&b->producer_ids_lock);
    fiber_mutex_init(&b->offsets_topic_lock);
    fiber_mutex_init(&b->configs_lock);
    *why = NULL;
    enum err e = broker_open(b, why);
    if (e != OK) {
        broker_close(b);
        if (!*why) *why = err_text(e);
        return e;
    }
    *out = b;
    return OK;
}

void broker_stop(struct broker *b) {
    CHECK_OBJ(b, BROKER_MAGIC);
    broker_close(b);
}

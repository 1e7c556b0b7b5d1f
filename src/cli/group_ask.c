/* Groups as their coordinators know them: one described, what it has committed, commits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/group.h"

/* From version 10 on, offsets are asked and committed by topic id; names are what people type. */
#define OFFSET_VERSION_MAX 9
#define ATTEMPTS_MAX 20u

void group_subject(const char *group, char out[GROUP_SUBJECT_SIZE]) {
    (void)snprintf(out, GROUP_SUBJECT_SIZE, "group '%s'", group);
}

/* The coordinator moved or is loading: wait a little and look for it again. */
static bool again(struct client *c, int16_t code, unsigned attempt) {
    bool coordinator = code == KAFKA_COORDINATOR_LOAD_IN_PROGRESS || code == KAFKA_NOT_COORDINATOR ||
                       code == KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (!coordinator || attempt + 1 >= ATTEMPTS_MAX || c->stopping) return false;
    env_backoff(c->env, attempt, 50 * NS_PER_MS, NS_PER_S);
    return true;
}

enum err group_describe_ask(struct client *c, const char *group, struct arena *a,
                            struct kafka_describe_groups_response_group *out) {
    struct kafka_string name = kafka_string_of(group), none = {NULL, -1};
    char subject[GROUP_SUBJECT_SIZE];
    group_subject(group, subject);
    for (unsigned attempt = 0;; attempt++) {
        struct client_conn *cc;
        struct kafka_describe_groups_request q;
        struct kafka_describe_groups_response r;
        enum err e = client_coordinator(c, name, &cc);
        if (e != OK) return e;
        kafka_describe_groups_request_init(&q);
        q.groups.items = &name;
        q.groups.count = 1;
        e = client_call(cc, KAFKA_API_DESCRIBE_GROUPS, CLIENT_ANY_VERSION, &q, a, &r);
        if (e != OK) return e;
        if (r.groups.count != 1)
            return client_fail(c, ERR_PROTOCOL, "%s: the broker describes %d groups", subject, (int)r.groups.count);
        *out = r.groups.items[0];
        if (again(c, out->error_code, attempt)) continue;
        /* Before version 6, a group that is not there is described as dead. */
        if (out->error_code == KAFKA_GROUP_ID_NOT_FOUND ||
            (out->error_code == 0 && kafka_string_equal(out->group_state, kafka_string_of("Dead")))) {
            (void)client_fail_code(c, subject, KAFKA_GROUP_ID_NOT_FOUND, none);
            return ERR_NOT_FOUND;
        }
        return out->error_code ? client_fail_code(c, subject, out->error_code, out->error_message) : OK;
    }
}

static int compare_committed(const void *a, const void *b) {
    const struct committed *x = a, *y = b;
    size_t n = (size_t)(x->topic.size < y->topic.size ? x->topic.size : y->topic.size);
    int d = memcmp(x->topic.data, y->topic.data, n);
    if (d == 0) d = (x->topic.size > y->topic.size) - (x->topic.size < y->topic.size);
    return d ? d : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Versions up to 7 answer for one group, later ones for several: both become one list. */
static void committed_collect(const struct kafka_offset_fetch_response *r, bool many, struct arena *a,
                              struct committed **out, size_t *count) {
    size_t total = 0;
    for (int32_t i = 0; !many && i < r->topics.count; i++) total += (size_t)r->topics.items[i].partitions.count;
    for (int32_t i = 0; many && i < r->groups.items[0].topics.count; i++) {
        total += (size_t)r->groups.items[0].topics.items[i].partitions.count;
    }
    *out = ARENA_ARRAY(a, struct committed, total + 1);
    *count = 0;
    for (int32_t i = 0; !many && i < r->topics.count; i++) {
        const struct kafka_offset_fetch_response_topic *t = &r->topics.items[i];
        for (int32_t k = 0; k < t->partitions.count; k++) {
            (*out)[(*count)++] =
                (struct committed){t->name, t->partitions.items[k].partition_index,
                                   t->partitions.items[k].committed_offset, t->partitions.items[k].error_code};
        }
    }
    for (int32_t i = 0; many && i < r->groups.items[0].topics.count; i++) {
        const struct kafka_offset_fetch_response_group_topic *t = &r->groups.items[0].topics.items[i];
        for (int32_t k = 0; k < t->partitions.count; k++) {
            (*out)[(*count)++] =
                (struct committed){t->name, t->partitions.items[k].partition_index,
                                   t->partitions.items[k].committed_offset, t->partitions.items[k].error_code};
        }
    }
    ASSERT(*count == total);
    qsort(*out, *count, sizeof(**out), compare_committed);
}

enum err group_committed(struct client *c, const char *group, struct arena *a, struct committed **out, size_t *count) {
    struct kafka_string name = kafka_string_of(group);
    char subject[GROUP_SUBJECT_SIZE];
    group_subject(group, subject);
    for (unsigned attempt = 0;; attempt++) {
        struct client_conn *cc;
        struct kafka_offset_fetch_request q;
        struct kafka_offset_fetch_response r;
        enum err e = client_coordinator(c, name, &cc);
        if (e != OK) return e;
        kafka_offset_fetch_request_init(&q);
        bool many = client_version(cc, KAFKA_API_OFFSET_FETCH, OFFSET_VERSION_MAX) >= 8;
        if (many) {
            q.groups.items = kafka_offset_fetch_request_group_new(a, 1);
            q.groups.count = 1;
            q.groups.items[0].group_id = name;
            q.groups.items[0].topics.count = -1;
        } else {
            q.group_id = name;
            q.topics.count = -1;
        }
        e = client_call(cc, KAFKA_API_OFFSET_FETCH, OFFSET_VERSION_MAX, &q, a, &r);
        if (e != OK) return e;
        if (many && r.groups.count != 1) {
            return client_fail(c, ERR_PROTOCOL, "%s: the broker answers for %d groups", subject, (int)r.groups.count);
        }
        int16_t code = many ? r.groups.items[0].error_code : r.error_code;
        if (again(c, code, attempt)) continue;
        if (code != 0) return client_fail_code(c, subject, code, (struct kafka_string){NULL, -1});
        committed_collect(&r, many, a, out, count);
        return OK;
    }
}

static void commit_request(struct kafka_offset_commit_request *q, const struct committed *items, size_t count,
                           struct arena *a) {
    q->topics.items = kafka_offset_commit_request_topic_new(a, count);
    q->topics.count = 0;
    for (size_t i = 0; i < count; i++) {
        struct kafka_offset_commit_request_topic *t = q->topics.count ? &q->topics.items[q->topics.count - 1] : NULL;
        if (!t || !kafka_string_equal(t->name, items[i].topic)) {
            t = &q->topics.items[q->topics.count++];
            t->name = items[i].topic;
            t->partitions.items = kafka_offset_commit_request_partition_new(a, count);
            t->partitions.count = 0;
        }
        struct kafka_offset_commit_request_partition *p = &t->partitions.items[t->partitions.count++];
        p->partition_index = items[i].partition;
        p->committed_offset = items[i].offset;
        p->committed_metadata = kafka_string_of("");
    }
}

enum err group_commit(struct client *c, const char *group, int32_t generation, const char *member_id,
                      struct committed *items, size_t count, struct arena *a) {
    for (unsigned attempt = 0;; attempt++) {
        struct client_conn *cc;
        struct kafka_offset_commit_request q;
        struct kafka_offset_commit_response r;
        enum err e = client_coordinator(c, kafka_string_of(group), &cc);
        if (e != OK) return e;
        kafka_offset_commit_request_init(&q);
        q.group_id = kafka_string_of(group);
        q.generation_id_or_member_epoch = generation;
        q.member_id = kafka_string_of(member_id);
        commit_request(&q, items, count, a);
        e = client_call(cc, KAFKA_API_OFFSET_COMMIT, OFFSET_VERSION_MAX, &q, a, &r);
        if (e != OK) return e;
        int16_t first = 0;
        for (size_t i = 0; i < count; i++) items[i].code = KAFKA_UNKNOWN_SERVER_ERROR; /* until answered */
        for (int32_t k = 0; k < r.topics.count; k++) {
            for (int32_t m = 0; m < r.topics.items[k].partitions.count; m++) {
                const struct kafka_offset_commit_response_partition *p = &r.topics.items[k].partitions.items[m];
                if (p->error_code != 0 && first == 0) first = p->error_code;
                for (size_t i = 0; i < count; i++) {
                    if (items[i].partition == p->partition_index &&
                        kafka_string_equal(items[i].topic, r.topics.items[k].name))
                        items[i].code = p->error_code;
                }
            }
        }
        if (!again(c, first, attempt)) return OK;
    }
}

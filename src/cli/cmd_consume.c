/* `oxbow consume`: records of a topic go to standard output, from chosen partitions and offsets or as a member of a
 * group. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/consumer.h"
#include "cli/member.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/record_format.h"
#include "cli/when.h"

#define OUT_BYTES ((size_t)65536)

enum consume_from { FROM_END, FROM_BEGINNING, FROM_OFFSET, FROM_TAIL, FROM_DATETIME };

struct consume_job {
    const char *topic, *group, *format;
    int32_t partition; /* -1: all */
    enum consume_from from;
    int64_t value;         /* offset, records before the end, or Unix milliseconds */
    uint64_t max_messages; /* UINT64_MAX: no limit */
    bool until_end, from_twice;
    int8_t isolation;
    /* While it runs. */
    struct client *client;
    struct buf out;
    uint64_t count;
    int written; /* EXIT_DONE until standard output fails */
};

/* --- Output. */

static bool record_take(void *ctx, int32_t partition, const struct batch_record *r) {
    struct consume_job *j = ctx;
    if (j->client->json) {
        record_json(&j->out, j->topic, partition, r);
    } else {
        record_format(&j->out, j->format, j->topic, partition, r);
    }
    return ++j->count < j->max_messages;
}

static void out_write(void *arg) {
    struct consume_job *j = arg;
    j->written = output_write(&j->out, "consume");
}

/* On a worker: who reads standard output may be slow. False: it is gone. */
static bool out_flush(struct consume_job *j) {
    if (j->out.size > 0) env_offload(j->client->env, out_write, j);
    return j->written == EXIT_DONE;
}

/* --- Where to begin and end. */

static enum err offsets_ask(struct consume_job *j, int64_t timestamp, struct client_offset *items, size_t count) {
    for (size_t i = 0; i < count; i++) items[i].timestamp = timestamp;
    enum err e = client_list_offsets(j->client, items, count, timestamp == CLIENT_EARLIEST ? 0 : j->isolation);
    for (size_t i = 0; e == OK && i < count; i++) {
        if (items[i].code == 0) continue;
        char subject[320];
        (void)snprintf(subject, sizeof(subject), "topic '%.200s' partition %d", j->topic, (int)items[i].partition);
        e = client_fail_code(j->client, subject, items[i].code, (struct kafka_string){NULL, -1});
    }
    return e;
}

/* Offsets of these partitions by j->from, unless start[i] is known (not -1), and their ends. */
static enum err places_find(struct consume_job *j, const struct kafka_metadata_response_topic *t,
                            const int32_t *partitions, const int64_t *start, size_t count, struct consumer *x,
                            struct arena *a) {
    struct client_offset *items = ARENA_ARRAY(a, struct client_offset, count + 1);
    int64_t *earliest = ARENA_ARRAY(a, int64_t, count + 1), *latest = ARENA_ARRAY(a, int64_t, count + 1);
    for (size_t i = 0; i < count; i++) items[i] = (struct client_offset){.topic = t->name, .partition = partitions[i]};
    enum err e = offsets_ask(j, CLIENT_EARLIEST, items, count);
    for (size_t i = 0; i < count; i++) earliest[i] = items[i].offset;
    if (e == OK) e = offsets_ask(j, CLIENT_LATEST, items, count);
    for (size_t i = 0; i < count; i++) latest[i] = items[i].offset;
    if (e == OK && j->from == FROM_DATETIME) e = offsets_ask(j, j->value, items, count);
    for (size_t i = 0; e == OK && i < count; i++) {
        int64_t at = latest[i];
        if (start && start[i] >= 0) {
            at = start[i] < earliest[i] ? earliest[i] : start[i];
        } else if (j->from == FROM_BEGINNING) {
            at = earliest[i];
        } else if (j->from == FROM_OFFSET) {
            at = j->value;
            if (at < earliest[i] || at > latest[i]) {
                return client_fail(j->client, ERR_OFFSET_OUT_OF_RANGE,
                                   "topic '%s' partition %d: there is no offset %" PRId64 ": its log begins at %" PRId64
                                   " and ends at %" PRId64,
                                   j->topic, (int)partitions[i], at, earliest[i], latest[i]);
            }
        } else if (j->from == FROM_TAIL) {
            at = latest[i] - earliest[i] > j->value ? latest[i] - j->value : earliest[i];
        } else if (j->from == FROM_DATETIME && items[i].offset >= 0) {
            at = items[i].offset;
        }
        const struct kafka_metadata_response_partition *p = client_find_partition(t, partitions[i]);
        consumer_add(x, partitions[i], p ? p->leader_id : -1, at, j->until_end ? latest[i] : INT64_MAX);
    }
    return e;
}

static void consumer_begin(struct consume_job *j, struct consumer *x) {
    consumer_init(x, j->client, j->topic);
    x->isolation = j->isolation;
    x->take = record_take;
    x->ctx = j;
}

/* --- Alone. */

static enum err consume_alone(struct consume_job *j, struct arena *a) {
    struct client *c = j->client;
    const struct kafka_metadata_response_topic *t;
    enum err e = client_topic(c, j->topic, a, &t);
    if (e != OK) return e;
    if (j->partition >= t->partitions.count) {
        return client_fail(c, ERR_NOT_FOUND, "topic '%s' has no partition %d, only %d from 0 on", j->topic,
                           (int)j->partition, (int)t->partitions.count);
    }
    int32_t *partitions = ARENA_ARRAY(a, int32_t, t->partitions.count + 1);
    size_t count = 0;
    for (int32_t i = 0; i < t->partitions.count; i++) {
        int32_t index = t->partitions.items[i].partition_index;
        if (j->partition < 0 || j->partition == index) partitions[count++] = index;
    }
    struct consumer x;
    consumer_begin(j, &x);
    e = places_find(j, t, partitions, NULL, count, &x, a);
    while (e == OK && !c->stopping && !x.full && !(j->until_end && consumer_at_end(&x))) {
        e = consumer_round(&x);
        if (!out_flush(j)) break;
    }
    consumer_deinit(&x);
    return e;
}

/* --- In a group. */

/* From joining until the group rebalances or all is done. What was written is committed, never more. */
static enum err consume_generation(struct consume_job *j, struct member *m, bool *over) {
    struct client *c = j->client;
    struct arena a;
    const struct kafka_metadata_response_topic *t;
    struct consumer x;
    arena_init(&a, &c->mem);
    consumer_begin(j, &x);
    enum err e = client_topic(c, j->topic, &a, &t);
    if (e == OK) e = places_find(j, t, m->partitions, m->committed, m->partition_count, &x, &a);
    while (e == OK && !m->rejoin && !*over) {
        if (x.count > 0) {
            e = consumer_round(&x);
        } else {
            (void)waitq_wait_until(&c->stopped, env_now_ns(c->env) + 500 * NS_PER_MS); /* nothing is assigned */
        }
        bool reader = out_flush(j);
        *over = !reader || c->stopping || x.full || (j->until_end && consumer_at_end(&x));
        /* Records that could not be written were not consumed. */
        if (!reader) break;
        enum err committed = member_commit(m, &x, e != OK || *over);
        if (e == OK) e = committed;
        if (e == OK && !*over) e = member_beat(m);
    }
    consumer_deinit(&x);
    arena_deinit(&a);
    return e;
}

static enum err consume_group(struct consume_job *j, struct arena *a) {
    struct client *c = j->client;
    const struct kafka_metadata_response_topic *t;
    struct member m;
    bool over = false;
    enum err e = client_topic(c, j->topic, a, &t);
    member_init(&m, c, j->group, j->topic);
    while (e == OK && !over && !c->stopping) {
        e = member_join(&m);
        if (e == OK && !c->stopping) e = consume_generation(j, &m, &over);
    }
    char why[CLIENT_WHY_SIZE];
    memcpy(why, c->why, sizeof(why));
    member_leave(&m);
    memcpy(c->why, why, sizeof(why));
    member_deinit(&m);
    return e;
}

static int consume_work(struct client *c, void *arg) {
    struct consume_job *j = arg;
    struct arena a;
    j->client = c;
    buf_init(&j->out, &c->mem);
    arena_init(&a, &c->mem);
    client_watch_signals(c);
    enum err e = j->max_messages == 0 ? OK : j->group ? consume_group(j, &a) : consume_alone(j, &a);
    int status = e == OK ? EXIT_DONE : client_say(c);
    (void)out_flush(j);
    arena_deinit(&a);
    buf_deinit(&j->out);
    return status == EXIT_DONE ? j->written : status;
}

/* --- The command line. */

enum consume_option {
    OPT_PARTITION = CLIENT_OPTION_COUNT,
    OPT_FROM_BEGINNING,
    OPT_OFFSET,
    OPT_TAIL,
    OPT_DATETIME,
    OPT_GROUP,
    OPT_MAX_MESSAGES,
    OPT_UNTIL_END,
    OPT_FORMAT,
    OPT_ISOLATION
};

static const struct option_spec specs[] = {
    CLIENT_OPTIONS,           {'p', "partition", "N"},      {0, "from-beginning", NULL}, {'o', "offset", "N"},
    {0, "tail", "N"},         {0, "from-datetime", "WHEN"}, {'g', "group", "NAME"},      {'n', "max-messages", "N"},
    {'e', "until-end", NULL}, {'f', "format", "FORMAT"},    {0, "isolation", "LEVEL"},
};

static void from_take(struct consume_job *j, enum consume_from from) {
    j->from_twice = j->from_twice || j->from != FROM_END;
    j->from = from;
}

/* What was expected, when the value makes no sense; else NULL. */
static const char *option_take(struct consume_job *j, enum consume_option option, const char *value) {
    uint64_t v;
    switch (option) {
    case OPT_PARTITION:
        if (!options_u64(value, 0, INT32_MAX - 1, &v)) return "the number of a partition";
        j->partition = (int32_t)v;
        return NULL;
    case OPT_FROM_BEGINNING:
        from_take(j, FROM_BEGINNING);
        return NULL;
    case OPT_OFFSET:
    case OPT_TAIL:
        from_take(j, option == OPT_OFFSET ? FROM_OFFSET : FROM_TAIL);
        if (!options_u64(value, 0, INT64_MAX, &v)) return option == OPT_OFFSET ? "an offset" : "a number of records";
        j->value = (int64_t)v;
        return NULL;
    case OPT_DATETIME:
        from_take(j, FROM_DATETIME);
        return when_parse(value, &j->value) ? NULL : "a moment such as 2024-02-29T12:30:45.123Z";
    case OPT_GROUP:
        j->group = value;
        return *value ? NULL : "the name of a group";
    case OPT_MAX_MESSAGES:
        return options_u64(value, 0, UINT64_MAX - 1, &j->max_messages) ? NULL : "a number of records";
    case OPT_UNTIL_END:
        j->until_end = true;
        return NULL;
    case OPT_FORMAT:
        j->format = value;
        return record_format_check(value);
    case OPT_ISOLATION:
        j->isolation = strcmp(value, "read_committed") == 0;
        return j->isolation || strcmp(value, "read_uncommitted") == 0 ? NULL : "read_committed or read_uncommitted";
    }
    UNREACHABLE();
}

static int consume_run(int argc, char **argv) {
    struct consume_job j = {.partition = -1, .format = RECORD_FORMAT_DEFAULT, .max_messages = UINT64_MAX};
    struct client_options co = {0};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) {
            if (j.topic) return options_refuse(&o, "one TOPIC");
            j.topic = o.value;
            continue;
        }
        const char *expected = i < CLIENT_OPTION_COUNT ? client_options_take(&co, i, o.value)
                                                       : option_take(&j, (enum consume_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    if (!j.topic) return options_refuse(&o, "a TOPIC");
    bool placed = j.partition >= 0 || (j.from != FROM_END && j.from != FROM_BEGINNING);
    if (j.from_twice || (j.group && placed)) {
        fprintf(stderr,
                "oxbow consume: expected at most one of --from-beginning, --offset, --tail, --from-datetime, and "
                "with --group none but the first, and no --partition\n");
        return EXIT_USAGE;
    }
    return client_run("consume", &co, consume_work, &j);
}

const struct command command_consume = {
    "consume",
    "records of a topic go to standard output",
    "usage: oxbow consume TOPIC [OPTION]...\n\n"
    "Writes the records of a topic as they come, byte for byte, until it is interrupted; from the end on, unless another\n"
    "place is named. Follows leaders, waits for brokers that are away.\n\n"
    "  -p, --partition N     of this partition alone\n"
    "      --from-beginning | -o, --offset N | --tail N (the last N of each partition) | --from-datetime WHEN\n"
    "  -g, --group NAME      as a member of this group: its partitions, from where it has committed; what was written is\n"
    "                        committed. Where nothing is committed yet: the end, or with --from-beginning the beginning\n"
    "  -n, --max-messages N  so many at most\n"
    "  -e, --until-end       up to what is there now\n"
    "  -f, --format FORMAT   %t topic, %p partition, %o offset, %T timestamp (ms), %k key, %K its size, %v or %s value,\n"
    "                        %S its size, %h headers, %%; \\n \\r \\t \\0 \\\\ \\xNN (default %v\\n)\n"
    "      --isolation LEVEL read_uncommitted (default), or read_committed: no records of aborted or open transactions\n"
    "      --json            one JSON object a line; what is not UTF-8 is {\"base64\":\"...\"}\n" CLIENT_OPTIONS_HELP
    "                        and how long to wait for brokers that are away\n",
    consume_run,
};

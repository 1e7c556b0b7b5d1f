/* `oxbow produce`: lines of standard input become records of a topic. A fiber reads ahead while batches are on their
 * way. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/process.h"
#include "cli/producer.h"

#define HEADERS_MAX 64u
#define READ_BYTES ((size_t)262144)
#define READ_AHEAD_BYTES ((size_t)4 << 20)
#define LINE_BYTES_MAX ((size_t)128 << 20)
#define READ_WAIT_MS 100u

struct produce_job {
    struct producer_options producer;
    const char *file; /* NULL: standard input */
    const char *key_separator;
    bool null_delimited, acks_given, not_idempotent;
    struct batch_record_header headers[HEADERS_MAX];
    size_t header_count;
    /* While it runs. */
    struct client *client;
    struct process_input input;
    struct buf ahead;    /* read and not taken; its first `taken` bytes are done with */
    size_t taken, known; /* no delimiter lies before `known` */
    bool ended;          /* nothing more will come */
    bool reading;        /* the fiber is alive */
    bool done;           /* nobody wants more */
    enum err failed;
    struct waitq more, room;
    uint64_t lines;
};

/* --- Reading ahead. */

struct read_job {
    struct process_input *input;
    uint8_t *data;
    size_t got;
    enum err err;
};

static void read_some(void *arg) {
    struct read_job *r = arg;
    r->err = process_input_read(r->input, r->data, READ_BYTES, READ_WAIT_MS, &r->got);
}

static void reader_main(void *arg) {
    struct produce_job *j = arg;
    struct client *c = j->client;
    struct read_job r = {.input = &j->input, .data = mem_alloc(&c->mem, READ_BYTES)};
    while (!j->ended && !j->done && !c->stopping) {
        /* A line that is longer than the read-ahead must still come whole. */
        if (j->ahead.size - j->taken >= READ_AHEAD_BYTES && j->known < j->ahead.size) {
            waitq_wait(&j->room);
            continue;
        }
        env_offload(c->env, read_some, &r);
        if (r.err == ERR_UNAVAILABLE) continue;
        if (r.err != OK) j->failed = r.err;
        if (r.err != OK || r.got == 0) {
            j->ended = true;
        } else {
            buf_put(&j->ahead, r.data, r.got);
        }
        waitq_wake_all(&j->more);
    }
    mem_free(&c->mem, r.data);
    j->reading = false;
    waitq_wake_all(&j->more);
}

/* The next line, without its delimiter; it stays valid until the fiber suspends. False: there is none now. */
static bool line_next(struct produce_job *j, const uint8_t **line, size_t *size) {
    if (j->known < j->taken) j->known = j->taken;
    const uint8_t *start = j->ahead.data + j->taken;
    const uint8_t *end = j->ahead.size > j->known
                             ? memchr(j->ahead.data + j->known, j->null_delimited ? 0 : '\n', j->ahead.size - j->known)
                             : NULL;
    if (end) {
        *line = start;
        *size = (size_t)(end - start);
        j->taken += *size + 1;
        return true;
    }
    j->known = j->ahead.size;
    if (j->reading || j->taken == j->ahead.size || j->client->stopping) return false;
    /* The last one has no delimiter. */
    *line = start;
    *size = j->ahead.size - j->taken;
    j->taken = j->ahead.size;
    return true;
}

/* Gives the room of what was taken back. */
static void ahead_trim(struct produce_job *j) {
    if (j->taken > 0 && j->taken * 2 >= j->ahead.size) {
        memmove(j->ahead.data, j->ahead.data + j->taken, j->ahead.size - j->taken);
        j->ahead.size -= j->taken;
        j->known = j->known > j->taken ? j->known - j->taken : 0;
        j->taken = 0;
    }
    waitq_wake_all(&j->room);
}

/* --- Records. */

static const uint8_t *bytes_find(const uint8_t *data, size_t size, const char *text, size_t text_size) {
    return text_size <= size ? memmem(data, size, text, text_size) : NULL;
}

/* The line is copied first: adding may suspend, and reading goes on meanwhile. */
static enum err line_produce(struct produce_job *j, struct producer *p, struct buf *copy, const uint8_t *line,
                             size_t size) {
    static const uint8_t nothing[1] = {0}; /* an empty key or value is not a null one */
    j->lines++;
    copy->size = 0;
    buf_put(copy, line, size);
    const uint8_t *value = size > 0 ? copy->data : nothing, *key = NULL;
    size_t key_size = 0, value_size = size;
    size_t separator_size = j->key_separator ? strlen(j->key_separator) : 0;
    const uint8_t *separator = separator_size ? bytes_find(value, size, j->key_separator, separator_size) : NULL;
    if (separator) {
        key = value;
        key_size = (size_t)(separator - value);
        value = separator + separator_size;
        value_size = size - key_size - separator_size;
    }
    return producer_add(p, j->lines, key, key_size, value, value_size, j->headers, j->header_count);
}

static enum err lines_produce(struct produce_job *j, struct producer *p) {
    struct client *c = j->client;
    struct buf copy;
    enum err e = OK;
    buf_init(&copy, &c->mem);
    while (e == OK) {
        const uint8_t *line;
        size_t size;
        if (line_next(j, &line, &size)) {
            e = line_produce(j, p, &copy, line, size);
            ahead_trim(j);
            continue;
        }
        ahead_trim(j);
        if (j->ahead.size - j->taken > LINE_BYTES_MAX) {
            e = client_fail(c, ERR_TOO_LARGE, "line %" PRIu64 " is longer than 128 MiB", j->lines + 1);
            break;
        }
        if (!j->reading && (j->taken == j->ahead.size || c->stopping)) break;
        if (env_now_ns(c->env) >= producer_due_ns(p)) {
            e = producer_flush(p, false);
        } else {
            (void)waitq_wait_until(&j->more, producer_due_ns(p));
        }
    }
    if (e == OK) e = producer_flush(p, true);
    buf_deinit(&copy);
    return e;
}

static void summary_say(const struct produce_job *j, const struct producer *p, uint64_t took_ns) {
    uint64_t ms = took_ns / NS_PER_MS;
    if (j->client->json) {
        fprintf(stderr,
                "{\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"retries\":%" PRIu64
                ",\"milliseconds\":%" PRIu64 "}\n",
                p->records, p->bytes, p->batches, p->retries, ms);
        return;
    }
    fprintf(stderr,
            "oxbow produce: %" PRIu64 " record%s in %" PRIu64 " batch%s (%" PRIu64 " bytes) %s in %" PRIu64 " ms",
            p->records, p->records == 1 ? "" : "s", p->batches, p->batches == 1 ? "" : "es", p->bytes,
            j->producer.acks == 0 ? "sent" : "acknowledged", ms);
    if (p->retries > 0) fprintf(stderr, ", %" PRIu64 " time%s repeated", p->retries, p->retries == 1 ? "" : "s");
    fputs("\n", stderr);
}

static int produce_work(struct client *c, void *arg) {
    struct produce_job *j = arg;
    struct producer p;
    uint64_t begun_ns = env_now_ns(c->env);
    j->client = c;
    client_watch_signals(c);
    if (producer_start(&p, c, &j->producer) != OK) return client_say(c);
    buf_init(&j->ahead, &c->mem);
    waitq_init(&j->more);
    waitq_init(&j->room);
    j->reading = true;
    fiber_spawn(loop_current(), "reader", reader_main, j);
    enum err e = lines_produce(j, &p);
    j->done = true;
    waitq_wake_all(&j->room);
    while (j->reading) waitq_wait(&j->more);
    int status = EXIT_DONE;
    if (e != OK) {
        status = client_say(c);
    } else if (j->failed != OK) {
        fprintf(stderr, "oxbow produce: cannot read %s: %s\n", j->file ? j->file : "standard input",
                err_text(j->failed));
        status = EXIT_FAILED;
    }
    summary_say(j, &p, env_now_ns(c->env) - begun_ns);
    producer_end(&p);
    buf_deinit(&j->ahead);
    return status;
}

/* --- The command line. */

enum produce_option {
    OPT_KEY_SEPARATOR = CLIENT_OPTION_COUNT,
    OPT_PARTITION,
    OPT_COMPRESSION,
    OPT_ACKS,
    OPT_NO_IDEMPOTENCE,
    OPT_BATCH_BYTES,
    OPT_LINGER,
    OPT_FILE,
    OPT_NULL,
    OPT_HEADER
};

static const struct option_spec specs[] = {
    CLIENT_OPTIONS,         {'k', "key-separator", "TEXT"}, {'p', "partition", "N"},      {'z', "compression", "CODEC"},
    {0, "acks", "all|1|0"}, {0, "no-idempotence", NULL},    {0, "batch-bytes", "N"},      {0, "linger-ms", "N"},
    {'f', "file", "FILE"},  {'0', "null-delimited", NULL},  {'H', "header", "key=value"},
};

static const char *codec_take(struct produce_job *j, const char *value) {
    for (int i = 0; i < CODEC_COUNT; i++) {
        if (strcmp(value, kafka_codec_name((enum kafka_codec)i)) != 0) continue;
        j->producer.codec = (enum kafka_codec)i;
        return NULL;
    }
    return "none, gzip, snappy, lz4 or zstd";
}

static const char *header_take(struct produce_job *j, const char *value) {
    const char *equals = strchr(value, '=');
    if (!equals || j->header_count == HEADERS_MAX) return "key=value, at most 64 times";
    j->headers[j->header_count++] = (struct batch_record_header){
        value, (int32_t)(equals - value), (const uint8_t *)equals + 1, (int32_t)strlen(equals + 1)};
    return NULL;
}

static const char *acks_take(struct produce_job *j, const char *value) {
    bool all = strcmp(value, "all") == 0 || strcmp(value, "-1") == 0;
    if (!all && strcmp(value, "0") != 0 && strcmp(value, "1") != 0) return "all, 1 or 0";
    j->producer.acks = all ? -1 : (int16_t)(value[0] - '0');
    return NULL;
}

/* What was expected, when the value makes no sense; else NULL. */
static const char *option_take(struct produce_job *j, enum produce_option option, const char *value) {
    uint64_t v;
    switch (option) {
    case OPT_KEY_SEPARATOR:
        j->key_separator = value;
        return *value ? NULL : "a text that is not empty behind --key-separator";
    case OPT_PARTITION:
        if (!options_u64(value, 0, INT32_MAX - 1, &v)) return "the number of a partition";
        j->producer.partition = (int32_t)v;
        return NULL;
    case OPT_COMPRESSION:
        return codec_take(j, value);
    case OPT_ACKS:
        return acks_take(j, value);
    case OPT_NO_IDEMPOTENCE:
        j->not_idempotent = true;
        return NULL;
    case OPT_BATCH_BYTES:
        if (!options_u64(value, 1, 1u << 30, &v)) return "bytes, 1 to 1073741824";
        j->producer.batch_bytes = v;
        return NULL;
    case OPT_LINGER:
        if (!options_u64(value, 0, 3600000, &v)) return "milliseconds, 0 to 3600000";
        j->producer.linger_ns = v * NS_PER_MS;
        return NULL;
    case OPT_FILE:
        j->file = value;
        return NULL;
    case OPT_NULL:
        j->null_delimited = true;
        return NULL;
    case OPT_HEADER:
        return header_take(j, value);
    }
    UNREACHABLE();
}

static int produce_run(int argc, char **argv) {
    struct produce_job j = {
        .producer = {.partition = -1, .acks = -1, .batch_bytes = 524288, .linger_ns = 50 * NS_PER_MS}};
    struct client_options co = {0};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) {
            if (j.producer.topic) return options_refuse(&o, "one TOPIC");
            j.producer.topic = o.value;
            continue;
        }
        const char *expected = i < CLIENT_OPTION_COUNT ? client_options_take(&co, i, o.value)
                                                       : option_take(&j, (enum produce_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    if (!j.producer.topic) return options_refuse(&o, "a TOPIC");
    /* A broker gives sequence numbers their meaning only together with acknowledgements of all replicas. */
    j.producer.idempotent = !j.not_idempotent && j.producer.acks == -1;
    char why[512];
    if (process_input_open(&j.input, j.file, why, sizeof(why)) != OK) {
        fprintf(stderr, "oxbow produce: %s\n", why);
        return EXIT_FAILED;
    }
    int status = client_run("produce", &co, produce_work, &j);
    process_input_close(&j.input);
    return status;
}

const struct command command_produce = {
    "produce",
    "lines of standard input become records of a topic",
    "usage: oxbow produce TOPIC [OPTION]...\n\n"
    "Each line becomes a record; the last one needs no end. Records with a key go to the partition that Kafka's clients\n"
    "choose for it, others to one partition after the other. What fails for a while is repeated, and stored once. At the\n"
    "end a line on standard error says how much was acknowledged; what was refused is named by its lines.\n\n"
    "  -k, --key-separator TEXT   what is before it is the key; a line without it has none\n"
    "  -H, --header key=value     on every record; may be repeated\n"
    "  -p, --partition N          all to this partition\n"
    "  -z, --compression CODEC    none, gzip, snappy, lz4, zstd (default none)\n"
    "  -f, --file FILE            instead of standard input\n"
    "  -0, --null-delimited       records end with a zero byte instead of a line feed\n"
    "      --acks all|1|0         who has it before it counts (default all; 1 and 0 without idempotence)\n"
    "      --no-idempotence       without a producer id: what is repeated may be stored twice\n"
    "      --batch-bytes N        most bytes of records in a batch before compression (default 524288)\n"
    "      --linger-ms N          how long a batch waits for more lines (default 50)\n"
    "      --json                 the last line as JSON\n" CLIENT_OPTIONS_HELP
    "                        and how long to repeat what is not acknowledged\n",
    produce_run,
};

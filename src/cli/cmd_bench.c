/* `oxbow bench`: the command line of the load generator; bench.h says how its parts hang together. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/bench.h"
#include "cli/bench_batch.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

#define DURATION_DEFAULT_NS (10 * NS_PER_S)

struct bench_job {
    struct bench_settings settings;
    char why[128]; /* what was expected */
};

static int bench_work(struct client *c, void *arg) {
    struct bench_job *j = arg;
    struct bench_result *r = MEM_NEW(&c->mem, struct bench_result);
    struct buf out, json;
    buf_init(&out, &c->mem);
    buf_init(&json, &c->mem);
    client_watch_signals(c);
    enum err e = bench_run(c, &j->settings, r);
    if (e == OK && (c->json || j->settings.json_file)) bench_report_json(r, &json);
    if (e == OK && j->settings.json_file) e = bench_file_write(c, j->settings.json_file, &json);
    if (e == OK && j->settings.svg_folder) e = bench_report_svg(c, r, j->settings.svg_folder);
    int status;
    if (e != OK) {
        status = client_say(c);
    } else if (c->json) {
        status = output_write(&json, c->command);
    } else {
        bench_report_table(r, &c->mem, &out);
        status = output_write(&out, c->command);
    }
    bench_result_deinit(r, &c->mem);
    mem_free(&c->mem, r);
    buf_deinit(&out);
    buf_deinit(&json);
    return status;
}

/* --- The command line. */

enum bench_option {
    OPT_TOPIC = CLIENT_OPTION_COUNT,
    OPT_TOPICS,
    OPT_PARTITIONS,
    OPT_REPLICATION,
    OPT_CONFIG,
    OPT_PRODUCERS,
    OPT_RECORD_SIZE,
    OPT_BATCH_SIZE,
    OPT_REQUEST_SIZE,
    OPT_LINGER,
    OPT_ACKS,
    OPT_IDEMPOTENCE,
    OPT_COMPRESSION,
    OPT_IN_FLIGHT,
    OPT_BUFFER,
    OPT_KEY_DISTRIBUTION,
    OPT_KEYS,
    OPT_RATE,
    OPT_SEED,
    OPT_COMPRESSIBILITY,
    OPT_PAYLOAD,
    OPT_BACKLOG,
    OPT_CONSUMERS,
    OPT_GROUP,
    OPT_FROM_BEGINNING,
    OPT_EACH_ALL,
    OPT_FETCH_WAIT,
    OPT_FETCH_MIN,
    OPT_FETCH_BYTES,
    OPT_PARTITION_BYTES,
    OPT_NO_SESSIONS,
    OPT_NO_CRC,
    OPT_CONNECTIONS,
    OPT_THREADS,
    OPT_WARM_UP,
    OPT_DURATION,
    OPT_RECORDS,
    OPT_BYTES,
    OPT_DRAIN,
    OPT_BROKER_PID,
    OPT_JSON_FILE,
    OPT_SVG
};

static const struct option_spec specs[] = {
    CLIENT_OPTIONS,
    {'t', "topic", "NAME"},
    {0, "topics", "N"},
    {'p', "partitions", "N"},
    {0, "replication-factor", "N"},
    {0, "config", "key=value"},
    {0, "producers", "N"},
    {0, "record-size", "BYTES"},
    {0, "batch-size", "BYTES"},
    {0, "max-request-size", "BYTES"},
    {0, "linger-ms", "N"},
    {0, "acks", "all|1|0"},
    {0, "idempotence", NULL},
    {'z', "compression-type", "CODEC"},
    {0, "max-in-flight", "N"},
    {0, "buffer-memory", "BYTES"},
    {0, "key-distribution", "none|uniform|zipf"},
    {0, "keys", "N"},
    {0, "rate", "N[B]"},
    {0, "seed", "N"},
    {0, "compressibility", "PERCENT"},
    {0, "payload", "random|repeat"},
    {0, "backlog", "BYTES"},
    {0, "consumers", "N"},
    {'g', "group", "NAME"},
    {0, "from-beginning", NULL},
    {0, "consumers-each-all", NULL},
    {0, "fetch-max-wait-ms", "N"},
    {0, "fetch-min-bytes", "BYTES"},
    {0, "fetch-max-bytes", "BYTES"},
    {0, "max-partition-fetch-bytes", "BYTES"},
    {0, "no-fetch-sessions", NULL},
    {0, "no-check-crcs", NULL},
    {0, "connections", "N"},
    {0, "threads", "N"},
    {0, "warm-up", "SECONDS"},
    {0, "duration", "SECONDS"},
    {0, "records", "N"},
    {0, "bytes", "BYTES"},
    {0, "drain", "SECONDS"},
    {0, "broker-pid", "PID"},
    {0, "json-file", "FILE"},
    {0, "svg", "FOLDER"},
};

static const struct unit {
    const char *name;
    uint64_t bytes;
} units[] = {{"B", 1},         {"kB", 1000},     {"MB", 1000000}, {"GB", 1000000000},
             {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};

/* "10", "10MB", "10MiB"; *unit says whether there was one. */
static bool bytes_parse(const char *text, uint64_t min, uint64_t max, uint64_t *out, bool *unit) {
    size_t digits = strspn(text, "0123456789");
    char number[24];
    uint64_t scale = 1, v;
    *unit = text[digits] != '\0';
    if (digits == 0 || digits >= sizeof(number)) return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    bool known = !*unit;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(text + digits, units[i].name) != 0) continue;
        scale = units[i].bytes;
        known = true;
    }
    if (!known || !options_u64(number, 0, UINT64_MAX, &v) || __builtin_mul_overflow(v, scale, &v)) return false;
    if (v < min || v > max) return false;
    *out = v;
    return true;
}

static const char *take_bytes(struct bench_job *j, const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    bool unit;
    if (bytes_parse(text, min, max, out, &unit)) return NULL;
    (void)snprintf(j->why, sizeof(j->why), "bytes, %" PRIu64 " to %" PRIu64 ", as 1000, 64KiB or 2GB", min, max);
    return j->why;
}

static const char *take_number(struct bench_job *j, const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    if (options_u64(text, min, max, out)) return NULL;
    (void)snprintf(j->why, sizeof(j->why), "a number from %" PRIu64 " to %" PRIu64, min, max);
    return j->why;
}

static const char *take_seconds(struct bench_job *j, const char *text, uint64_t min, uint64_t *out) {
    const char *expected = take_number(j, text, min, 86400 * 7, out);
    if (expected) return "whole seconds, at most a week";
    *out *= NS_PER_S;
    return NULL;
}

static const char *take_config(struct bench_settings *s, const char *text) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || s->config_count == BENCH_CONFIGS_MAX) return "key=value, at most 64 times";
    s->configs[s->config_count++] = (struct bench_config){text, (size_t)(equals - text), equals + 1};
    return NULL;
}

static const char *take_acks(struct bench_settings *s, const char *text) {
    bool all = strcmp(text, "all") == 0 || strcmp(text, "-1") == 0;
    if (!all && strcmp(text, "0") != 0 && strcmp(text, "1") != 0) return "all, 1 or 0";
    s->acks = all ? -1 : (int16_t)(text[0] - '0');
    return NULL;
}

static const char *take_codec(struct bench_settings *s, const char *text) {
    for (int i = 0; i < CODEC_COUNT; i++) {
        if (strcmp(text, kafka_codec_name((enum kafka_codec)i)) != 0) continue;
        s->codec = (enum kafka_codec)i;
        return NULL;
    }
    return "none, gzip, snappy, lz4 or zstd";
}

static const char *take_keys(struct bench_settings *s, const char *text) {
    static const char *const names[] = {[KEY_NONE] = "none", [KEY_UNIFORM] = "uniform", [KEY_ZIPF] = "zipf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) != 0) continue;
        s->key_kind = (enum key_kind)i;
        return NULL;
    }
    return "none, uniform or zipf";
}

static const char *take_rate(struct bench_settings *s, const char *text) {
    bool unit;
    if (!bytes_parse(text, 1, 1000000000000ull, &s->rate, &unit)) return "records a second, or bytes as in 50MB";
    s->rate_unit = unit ? 0 : 1; /* 0: a record's size, when that is known */
    return NULL;
}

static const char *take_text(const char *text, const char *expected, const char **out) {
    *out = text;
    return *text ? NULL : expected;
}

/* What a producer does. */
static const char *producer_option_take(struct bench_job *j, enum bench_option option, const char *value) {
    struct bench_settings *s = &j->settings;
    switch (option) {
    case OPT_PRODUCERS:
        return take_number(j, value, 0, 10000, &s->producers);
    case OPT_RECORD_SIZE:
        return take_bytes(j, value, BENCH_STAMP_SIZE, 64 << 20, &s->record_size);
    case OPT_BATCH_SIZE:
        return take_bytes(j, value, 0, 256 << 20, &s->batch_bytes);
    case OPT_REQUEST_SIZE:
        return take_bytes(j, value, 1, 1 << 30, &s->request_bytes);
    case OPT_LINGER:
        if (take_number(j, value, 0, 3600000, &s->linger_ns)) return j->why;
        s->linger_ns *= NS_PER_MS;
        return NULL;
    case OPT_ACKS:
        return take_acks(s, value);
    case OPT_IDEMPOTENCE:
        s->idempotence = true;
        return NULL;
    case OPT_COMPRESSION:
        return take_codec(s, value);
    case OPT_IN_FLIGHT:
        return take_number(j, value, 1, BENCH_IN_FLIGHT_MAX, &s->in_flight);
    case OPT_BUFFER:
        return take_bytes(j, value, 1, (uint64_t)64 << 30, &s->buffer_bytes);
    case OPT_KEY_DISTRIBUTION:
        return take_keys(s, value);
    case OPT_KEYS:
        return take_number(j, value, 1, UINT32_MAX, &s->key_count);
    case OPT_RATE:
        return take_rate(s, value);
    case OPT_SEED:
        return take_number(j, value, 0, INT64_MAX, &s->seed);
    case OPT_COMPRESSIBILITY:
        return take_number(j, value, 0, 100, &s->compressibility);
    case OPT_PAYLOAD:
        s->repeat = strcmp(value, "repeat") == 0;
        return s->repeat || strcmp(value, "random") == 0 ? NULL : "random or repeat";
    case OPT_BACKLOG:
        return take_bytes(j, value, 1, (uint64_t)1 << 50, &s->backlog_bytes);
    default:
        UNREACHABLE();
    }
}

/* What a consumer does. */
static const char *consumer_option_take(struct bench_job *j, enum bench_option option, const char *value) {
    struct bench_settings *s = &j->settings;
    switch (option) {
    case OPT_CONSUMERS:
        return take_number(j, value, 0, 10000, &s->consumers);
    case OPT_GROUP:
        return take_text(value, "the name of a group", &s->group);
    case OPT_FROM_BEGINNING:
        s->from_beginning = true;
        return NULL;
    case OPT_EACH_ALL:
        s->each_all = true;
        return NULL;
    case OPT_FETCH_WAIT:
        return take_number(j, value, 0, 3600000, &s->fetch_wait_ms);
    case OPT_FETCH_MIN:
        return take_bytes(j, value, 0, 1 << 30, &s->fetch_min_bytes);
    case OPT_FETCH_BYTES:
        return take_bytes(j, value, 1, 512 << 20, &s->fetch_bytes);
    case OPT_PARTITION_BYTES:
        return take_bytes(j, value, 1, 512 << 20, &s->partition_bytes);
    case OPT_NO_SESSIONS:
        s->no_sessions = true;
        return NULL;
    case OPT_NO_CRC:
        s->no_crc = true;
        return NULL;
    default:
        UNREACHABLE();
    }
}

/* What was expected, when the value makes no sense; else NULL. */
static const char *option_take(struct bench_job *j, enum bench_option option, const char *value) {
    struct bench_settings *s = &j->settings;
    if (option >= OPT_PRODUCERS && option <= OPT_BACKLOG) return producer_option_take(j, option, value);
    if (option >= OPT_CONSUMERS && option <= OPT_NO_CRC) return consumer_option_take(j, option, value);
    switch (option) {
    case OPT_TOPIC:
        if (strlen(value) > 249) return "a name of at most 249 characters";
        return take_text(value, "the name of a topic", &s->topic);
    case OPT_TOPICS:
        return take_number(j, value, 1, 100000, &s->topics);
    case OPT_PARTITIONS:
        return take_number(j, value, 1, 1000000, &s->partitions);
    case OPT_REPLICATION:
        return take_number(j, value, 1, 100, &s->replication);
    case OPT_CONFIG:
        return take_config(s, value);
    case OPT_CONNECTIONS:
        return take_number(j, value, 0, 1000000, &s->connections);
    case OPT_THREADS:
        return take_number(j, value, 1, BENCH_THREADS_MAX, &s->threads);
    case OPT_WARM_UP:
        return take_seconds(j, value, 0, &s->warm_up_ns);
    case OPT_DURATION:
        return take_seconds(j, value, 1, &s->duration_ns);
    case OPT_RECORDS:
        return take_number(j, value, 1, INT64_MAX, &s->records);
    case OPT_BYTES:
        return take_bytes(j, value, 1, (uint64_t)1 << 60, &s->bytes);
    case OPT_DRAIN:
        return take_seconds(j, value, 0, &s->drain_ns);
    case OPT_BROKER_PID:
        return take_number(j, value, 1, INT32_MAX, &s->broker_pid);
    case OPT_JSON_FILE:
        return take_text(value, "a file", &s->json_file);
    case OPT_SVG:
        return take_text(value, "a folder", &s->svg_folder);
    default:
        UNREACHABLE();
    }
}

/* Settings that do not go together: a sentence part; NULL when all is well. Defaults that depend on others are set. */
static const char *settings_check(struct bench_settings *s) {
    if (s->rate > 0 && s->rate_unit == 0) s->rate_unit = s->record_size;
    if (s->idempotence && s->acks != -1) return "--acks all with --idempotence";
    if (s->idempotence && s->in_flight > 5) return "--max-in-flight of at most 5 with --idempotence";
    if (s->group && s->topics > 1) return "one topic with --group";
    if (s->group && s->each_all) return "--group or --consumers-each-all, not both";
    if (s->group && s->consumers == 0) return "--consumers with --group";
    if (s->key_kind == KEY_ZIPF && s->key_count > KEY_ZIPF_MAX) return "--keys of at most 10000000 with zipf";
    if (s->records && s->bytes) return "--records or --bytes, not both";
    if (s->backlog_bytes && s->producers == 0) return "--producers with --backlog";
    if (s->producers + s->consumers + s->connections == 0) return "--producers, --consumers or --connections";
    if (s->topics * (s->partitions ? s->partitions : 1) > 4000000) return "at most 4000000 partitions in all";
    bool limited = s->duration_ns || s->records || s->bytes;
    if (!limited && (s->producers > 0 || s->consumers == 0)) s->duration_ns = DURATION_DEFAULT_NS;
    return NULL;
}

static const struct bench_settings settings_default = {
    .topic = "bench",
    .topics = 1,
    .producers = 1,
    .record_size = 1024,
    .batch_bytes = 16384,
    .request_bytes = 1 << 20,
    .in_flight = 5,
    .buffer_bytes = 32 << 20,
    .acks = -1,
    .key_count = 1000000,
    .rate_unit = 1,
    .seed = 1,
    .fetch_wait_ms = 500,
    .fetch_min_bytes = 1,
    .fetch_bytes = 50 << 20,
    .partition_bytes = 1 << 20,
    .threads = 1,
    .drain_ns = 60 * NS_PER_S,
};

static int bench_run_command(int argc, char **argv) {
    struct bench_job j = {.settings = settings_default};
    struct client_options co = {0};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "options alone");
        const char *expected = i < CLIENT_OPTION_COUNT ? client_options_take(&co, i, o.value)
                                                       : option_take(&j, (enum bench_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    const char *expected = settings_check(&j.settings);
    if (expected) {
        fprintf(stderr, "oxbow bench: expected %s ('oxbow help bench' tells more)\n", expected);
        return EXIT_USAGE;
    }
    return client_run("bench", &co, bench_work, &j);
}

const struct command command_bench = {
    "bench",
    "puts load on any Kafka-compatible cluster and measures it",
    "usage: oxbow bench [OPTION]...\n\n"
    "Produces and consumes records and says how many there were and how long they took. With --rate every record is due\n"
    "at a fixed time, and its latency counts from then, whether or not it could be sent; without, producers go at full\n"
    "speed, and latency counts from when a batch was handed to its connection. Values begin with the time they were due\n"
    "at (8 bytes), from which consumers measure end to end, on the same machine. Errors that pass are repeated and\n"
    "counted. The first interrupt ends the measuring. Defaults are those of Kafka's clients where they have one.\n"
    "BYTES may have a unit: B, kB, MB, GB, KiB, MiB, GiB.\n\n"
    "Topics\n"
    "  -t, --topic NAME              made when it is not there (default bench)\n"
    "      --topics N                NAME-0, NAME-1, ...; all producers and consumers use all (default 1)\n"
    "  -p, --partitions N            of each topic (default: what is there, or 1)\n"
    "      --replication-factor N    for new topics (default: the broker's)\n"
    "      --config key=value        for new topics; may be repeated\n\n"
    "Producers\n"
    "      --producers N             each with connections of its own (default 1)\n"
    "      --record-size BYTES       of a value, at least 8 (default 1024)\n"
    "      --batch-size BYTES        most bytes of a batch; a larger record goes alone (default 16384)\n"
    "      --max-request-size BYTES  most bytes of batches in a request (default 1048576)\n"
    "      --linger-ms N             how long a batch waits for more records (default 0)\n"
    "      --acks all|1|0            (default all)\n"
    "      --idempotence             with a producer id: what is repeated is stored once\n"
    "  -z, --compression-type CODEC  none, gzip, snappy, lz4, zstd (default none)\n"
    "      --max-in-flight N         requests under way on a connection, 1 to 64 (default 5)\n"
    "      --buffer-memory BYTES     of each producer: records that are not acknowledged (default 33554432)\n"
    "      --rate N[B]               records a second of all producers, or bytes as in 50MB (default: full speed)\n"
    "      --key-distribution none|uniform|zipf\n"
    "                                none: one batch after the other to each partition in turn (default none)\n"
    "      --keys N                  how many different ones (default 1000000)\n"
    "      --compressibility PERCENT of the values' bytes that are all the same (default 0)\n"
    "      --payload random|repeat   repeat: the same bytes in every record (default random)\n"
    "      --seed N                  of the random bytes and keys (default 1)\n"
    "      --backlog BYTES           written first, at full speed and unmeasured; then consumers catch up\n\n"
    "Consumers\n"
    "      --consumers N             which share the partitions (default 0)\n"
    "      --consumers-each-all      each reads all partitions\n"
    "  -g, --group NAME              the consumers are members of this group, and commit\n"
    "      --from-beginning          instead of from the end\n"
    "      --fetch-max-wait-ms N     (default 500)\n"
    "      --fetch-min-bytes BYTES   (default 1)\n"
    "      --fetch-max-bytes BYTES   (default 52428800)\n"
    "      --max-partition-fetch-bytes BYTES  (default 1048576)\n"
    "      --no-fetch-sessions       every request names all partitions\n"
    "      --no-check-crcs           batches are read unchecked\n\n"
    "The run\n"
    "      --connections N           idle ones beside the load (default 0)\n"
    "      --threads N               producers and consumers are spread over them (default 1)\n"
    "      --warm-up SECONDS         in front of what is measured (default 0)\n"
    "      --duration SECONDS        measured (default 10; without producers: until all is read)\n"
    "      --records N, --bytes BYTES\n"
    "                                ends after so much was acknowledged, or without producers read; warm-up included\n"
    "      --drain SECONDS           how long, at the end, to wait for what is under way (default 60)\n"
    "      --broker-pid PID          a process here whose processor time and memory are told too\n\n"
    "Results\n"
    "      --json                    instead of tables, one JSON object on standard output\n"
    "      --json-file FILE          the same into a file, beside whatever is printed\n"
    "      --svg FOLDER              pictures: latency.svg, percentiles.svg, throughput.svg\n\n" CLIENT_OPTIONS_HELP
    "                        or to an end of errors that pass\n",
    bench_run_command,
};

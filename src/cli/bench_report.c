/* What a run of the load came to: a table for people, JSON for programs, pictures. Numbers in JSON are whole: bytes,
 * microseconds, nanoseconds. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/bench.h"
#include "cli/bench_svg.h"
#include "cli/output.h"

#define BUSY_PERCENT 85u
#define TITLE_SIZE 400u

static const struct percentile {
    const char *key, *name;
    double percent;
} percentiles[] = {{"p50_us", "p50", 50}, {"p90_us", "p90", 90}, {"p99_us", "p99", 99}, {"p999_us", "p99.9", 99.9}};

static double seconds(uint64_t ns) {
    return (double)ns / (double)NS_PER_S;
}

static uint64_t per_second(uint64_t n, uint64_t ns) {
    return ns ? (uint64_t)((double)n / seconds(ns)) : 0;
}

/* Nanoseconds of processor time for 10^9 bytes; 0 without bytes. */
static uint64_t cpu_per_gb(uint64_t cpu_ns, uint64_t bytes) {
    return bytes ? (uint64_t)((double)cpu_ns / ((double)bytes / 1e9)) : 0;
}

static uint64_t broker_cpu_ns(const struct bench_result *r) {
    return r->broker_after.cpu_ns > r->broker_before.cpu_ns ? r->broker_after.cpu_ns - r->broker_before.cpu_ns : 0;
}

/* How much of its threads' time this client has used, in percent: near 100 it is the client that is measured. */
static uint64_t busy_percent(const struct bench_result *r) {
    uint64_t had_ns = r->measured_ns * r->settings->threads;
    return had_ns ? (uint64_t)((double)r->own_cpu_ns * 100 / (double)had_ns) : 0;
}

static uint64_t missing(const struct bench_result *r) {
    if (r->expected_records == UINT64_MAX || r->whole.out_records >= r->expected_records) return 0;
    return r->expected_records - r->whole.out_records;
}

static const char *code_name(size_t at, char number[32]) {
    if (at == (size_t)(BENCH_CODE_LOST + 1)) return "connection lost";
    const char *name = kafka_error_name((int16_t)((int)at - 1));
    if (name[0] != '?') return name;
    (void)snprintf(number, 32, "error code %d", (int)at - 1);
    return number;
}

/* --- The table. */

static void us_text(uint64_t us, char *out, size_t size) {
    if (us < 10000) {
        (void)snprintf(out, size, "%" PRIu64 " us", us);
    } else if (us < 10000000) {
        (void)snprintf(out, size, "%.1f ms", (double)us / 1e3);
    } else {
        (void)snprintf(out, size, "%.1f s", (double)us / 1e6);
    }
}

static void latency_line(struct table *t, const char *name, const struct histogram *h) {
    char text[32];
    if (h->count == 0) return;
    table_text(t, name);
    for (size_t i = 0; i < ARRAY_LEN(percentiles); i++) {
        us_text(histogram_percentile(h, percentiles[i].percent), text, sizeof(text));
        table_text(t, text);
    }
    us_text(h->max, text, sizeof(text));
    table_text(t, text);
    us_text(histogram_mean(h), text, sizeof(text));
    table_text(t, text);
}

static void flow_line(struct table *t, const char *name, uint64_t records, uint64_t bytes, uint64_t wire, uint64_t ns) {
    char text[32];
    table_text(t, name);
    table_number(t, (int64_t)records);
    table_number(t, (int64_t)per_second(records, ns));
    (void)snprintf(text, sizeof(text), "%.2f", (double)per_second(bytes, ns) / 1e6);
    table_text(t, text);
    (void)snprintf(text, sizeof(text), "%.2f", (double)per_second(wire, ns) / 1e6);
    table_text(t, text);
}

static void flows_print(const struct bench_result *r, struct mem *m, struct buf *out) {
    static const char *const headers[] = {"", "RECORDS", "RECORDS/S", "MB/S", "MB/S OF BATCHES"};
    const struct bench_counts *c = &r->measured;
    struct table t;
    table_init(&t, m, headers, ARRAY_LEN(headers), 0x1e);
    if (r->settings->producers) {
        flow_line(&t, r->settings->acks == 0 ? "sent" : "acknowledged", c->in_records, c->in_bytes, c->in_batch_bytes,
                  r->measured_ns);
    }
    if (r->settings->consumers) flow_line(&t, "read", c->out_records, c->out_bytes, c->out_batch_bytes, r->measured_ns);
    table_print(&t, out);
    table_deinit(&t);
}

static void latencies_print(const struct bench_result *r, struct mem *m, struct buf *out) {
    static const char *const headers[] = {"LATENCY", "P50", "P90", "P99", "P99.9", "MAX", "MEAN"};
    struct table t;
    if (r->measured.produce.count + r->measured.end_to_end.count == 0) return;
    table_init(&t, m, headers, ARRAY_LEN(headers), 0x7e);
    latency_line(&t, r->settings->rate ? "produce, from when due" : "produce, from when sent", &r->measured.produce);
    latency_line(&t, "end to end", &r->measured.end_to_end);
    buf_printf(out, "\n");
    table_print(&t, out);
    table_deinit(&t);
}

static void rows_print(const struct bench_result *r, struct mem *m, struct buf *out) {
    static const char *const headers[] = {"SECOND",  "IN MB/S", "OUT MB/S", "IN P50", "IN P99", "IN MAX",
                                          "E2E P50", "E2E P99", "E2E MAX",  "ERRORS", ""};
    struct table t;
    table_init(&t, m, headers, ARRAY_LEN(headers), 0x3ff);
    for (size_t i = 0; i < r->row_count; i++) {
        const struct bench_row *row = &r->rows[i];
        char text[32];
        const uint64_t us[] = {row->produce_p50, row->produce_p99, row->produce_max,
                               row->end_p50,     row->end_p99,     row->end_max};
        table_number(&t, (int64_t)row->second);
        (void)snprintf(text, sizeof(text), "%.2f", (double)per_second(row->in_bytes, row->took_ns) / 1e6);
        table_text(&t, text);
        (void)snprintf(text, sizeof(text), "%.2f", (double)per_second(row->out_bytes, row->took_ns) / 1e6);
        table_text(&t, text);
        for (size_t k = 0; k < ARRAY_LEN(us); k++) {
            us_text(us[k], text, sizeof(text));
            table_text(&t, us[k] ? text : "-");
        }
        table_number(&t, (int64_t)row->errors);
        table_text(&t, row->measured ? "measured" : "warm-up");
    }
    table_print(&t, out);
    table_deinit(&t);
}

static void backlog_print(const struct bench_result *r, struct buf *out) {
    if (r->backlog_records == 0) return;
    buf_printf(out, "backlog: %" PRIu64 " records, %.2f MB, written in %.2f s", r->backlog_records,
               (double)r->backlog_bytes / 1e6, seconds(r->backlog_ns));
    if (r->settings->consumers && r->caught_up_ns)
        buf_printf(out, ", read in %.2f s", seconds(r->caught_up_ns));
    else if (r->settings->consumers)
        buf_printf(out, ", not read to its end while measuring");
    buf_printf(out, "\n");
}

static void costs_print(const struct bench_result *r, struct buf *out) {
    const struct bench_counts *c = &r->measured;
    uint64_t bytes = c->in_bytes + c->out_bytes;
    buf_printf(out, "this client: %.2f s of processor time, %" PRIu64 " %% of its threads' time",
               seconds(r->own_cpu_ns), busy_percent(r));
    if (bytes) buf_printf(out, ", %.3f s per GB in and out", seconds(cpu_per_gb(r->own_cpu_ns, bytes)));
    buf_printf(out, "\n");
    if (busy_percent(r) >= BUSY_PERCENT)
        buf_printf(out, "this client was busy nearly all the time: it may be what limits; see --threads\n");
    if (!r->settings->broker_pid) return;
    buf_printf(out, "broker, process %" PRIu64 ": %.2f s of processor time", r->settings->broker_pid,
               seconds(broker_cpu_ns(r)));
    if (c->in_bytes) buf_printf(out, ", %.3f s per GB in", seconds(cpu_per_gb(broker_cpu_ns(r), c->in_bytes)));
    if (c->out_bytes) buf_printf(out, ", %.3f s per GB out", seconds(cpu_per_gb(broker_cpu_ns(r), c->out_bytes)));
    if (c->in_bytes && c->out_bytes)
        buf_printf(out, ", %.3f s per GB in and out", seconds(cpu_per_gb(broker_cpu_ns(r), bytes)));
    buf_printf(out, "; resident %.1f MB before, %.1f MB after, at most %.1f MB\n",
               (double)r->broker_before.resident_bytes / 1e6, (double)r->broker_after.resident_bytes / 1e6,
               (double)r->broker_after.peak_bytes / 1e6);
}

static void whole_print(const struct bench_result *r, struct buf *out) {
    const struct bench_settings *s = r->settings;
    const struct bench_counts *c = &r->whole;
    if (s->producers + s->consumers == 0) return;
    buf_printf(out, "in all, with what was not measured:");
    if (s->producers) buf_printf(out, " %" PRIu64 " records %s", c->in_records, s->acks == 0 ? "sent" : "acknowledged");
    if (s->consumers) buf_printf(out, "%s %" PRIu64 " read", s->producers ? "," : "", c->out_records);
    buf_printf(out, "\n");
}

static void warnings_print(const struct bench_result *r, struct buf *out) {
    const struct bench_counts *c = &r->whole;
    for (size_t i = 0; i < BENCH_CODES; i++) {
        char number[32];
        if (c->errors[i]) buf_printf(out, "errors: %s, %" PRIu64 " times\n", code_name(i, number), c->errors[i]);
    }
    /* A few are under way at any moment; many mean that the timetable was not kept. */
    if (r->late_records > c->in_records / 100)
        buf_printf(out, "due, but not acknowledged when the measuring ended: %" PRIu64 " records\n", r->late_records);
    if (c->retries) buf_printf(out, "batches sent again: %" PRIu64 "\n", c->retries);
    if (c->gaps) buf_printf(out, "offsets without a record between those that were read: %" PRIu64 "\n", c->gaps);
    if (missing(r)) buf_printf(out, "not read: %" PRIu64 " of %" PRIu64 " records\n", missing(r), r->expected_records);
    if (c->idle_lost) buf_printf(out, "idle connections that the broker closed: %" PRIu64 "\n", c->idle_lost);
    if (r->interrupted) buf_printf(out, "interrupted\n");
}

void bench_report_table(const struct bench_result *r, struct mem *m, struct buf *out) {
    if (r->row_count > 1) {
        rows_print(r, m, out);
        buf_printf(out, "\n");
    }
    buf_printf(out, "measured: %.2f s\n", seconds(r->measured_ns));
    if (r->settings->producers + r->settings->consumers) flows_print(r, m, out);
    latencies_print(r, m, out);
    buf_printf(out, "\n");
    if (r->settings->connections) buf_printf(out, "idle connections: %" PRIu64 "\n", r->idle_open);
    backlog_print(r, out);
    whole_print(r, out);
    costs_print(r, out);
    warnings_print(r, out);
}

/* --- JSON. */

static void number(struct json *j, const char *key, uint64_t v) {
    json_number(j, key, (int64_t)(v > INT64_MAX ? INT64_MAX : v));
}

static void settings_json(const struct bench_settings *s, struct json *j) {
    json_open(j, "settings", '{');
    json_text(j, "topic", s->topic);
    number(j, "topics", s->topics);
    number(j, "partitions", s->partitions);
    number(j, "replication_factor", s->replication);
    json_open(j, "configs", '{');
    for (size_t i = 0; i < s->config_count; i++) {
        json_key(j, kafka_string_view(s->configs[i].name, s->configs[i].name_size));
        json_text(j, NULL, s->configs[i].value);
    }
    json_close(j, '}');
    number(j, "producers", s->producers);
    number(j, "record_size", s->record_size);
    number(j, "batch_size", s->batch_bytes);
    number(j, "max_request_size", s->request_bytes);
    number(j, "linger_ms", s->linger_ns / NS_PER_MS);
    number(j, "max_in_flight", s->in_flight);
    number(j, "buffer_bytes", s->buffer_bytes);
    json_number(j, "acks", s->acks);
    json_bool(j, "idempotence", s->idempotence);
    json_text(j, "compression_type", kafka_codec_name(s->codec));
    json_text(j, "key_distribution", s->key_kind == KEY_NONE ? "none" : s->key_kind == KEY_ZIPF ? "zipf" : "uniform");
    number(j, "keys", s->key_kind == KEY_NONE ? 0 : s->key_count);
    number(j, s->rate_unit > 1 ? "rate_bytes" : "rate_records", s->rate);
    number(j, "seed", s->seed);
    number(j, "compressibility", s->compressibility);
    json_text(j, "payload", s->repeat ? "repeat" : "random");
    number(j, "backlog_bytes", s->backlog_bytes);
    number(j, "consumers", s->consumers);
    json_text(j, "group", s->group);
    json_bool(j, "from_beginning", s->from_beginning);
    json_bool(j, "consumers_each_all", s->each_all);
    json_bool(j, "fetch_sessions", !s->no_sessions);
    json_bool(j, "check_crcs", !s->no_crc);
    number(j, "connections", s->connections);
    number(j, "threads", s->threads);
    number(j, "warm_up_s", s->warm_up_ns / NS_PER_S);
    number(j, "duration_s", s->duration_ns / NS_PER_S);
    number(j, "records", s->records);
    number(j, "bytes", s->bytes);
    json_close(j, '}');
}

static void latency_json(struct json *j, const char *key, const struct histogram *h) {
    json_open(j, key, '{');
    number(j, "count", h->count);
    for (size_t i = 0; i < ARRAY_LEN(percentiles); i++)
        number(j, percentiles[i].key, histogram_percentile(h, percentiles[i].percent));
    number(j, "max_us", h->max);
    number(j, "min_us", h->count ? h->min : 0);
    number(j, "mean_us", histogram_mean(h));
    json_close(j, '}');
}

static void counts_json(struct json *j, const struct bench_counts *c) {
    number(j, "records_acked", c->in_records);
    number(j, "bytes_acked", c->in_bytes);
    number(j, "batch_bytes_acked", c->in_batch_bytes);
    number(j, "batches_acked", c->in_batches);
    number(j, "requests_answered", c->in_requests);
    number(j, "records_consumed", c->out_records);
    number(j, "bytes_consumed", c->out_bytes);
    number(j, "batch_bytes_consumed", c->out_batch_bytes);
    number(j, "fetches_answered", c->out_answers);
    number(j, "batches_sent_again", c->retries);
    number(j, "gaps", c->gaps);
}

static void totals_json(const struct bench_result *r, struct json *j) {
    const struct bench_counts *c = &r->measured;
    json_open(j, "totals", '{');
    number(j, "measured_ns", r->measured_ns);
    counts_json(j, c);
    number(j, "records_acked_per_s", per_second(c->in_records, r->measured_ns));
    number(j, "bytes_acked_per_s", per_second(c->in_bytes, r->measured_ns));
    number(j, "records_consumed_per_s", per_second(c->out_records, r->measured_ns));
    number(j, "bytes_consumed_per_s", per_second(c->out_bytes, r->measured_ns));
    if (r->settings->rate) number(j, "records_due_not_acked", r->late_records);
    json_close(j, '}');
    json_open(j, "whole_run", '{');
    counts_json(j, &r->whole);
    if (r->expected_records != UINT64_MAX) number(j, "records_expected", r->expected_records);
    number(j, "records_missing", missing(r));
    number(j, "idle_connections", r->idle_open);
    number(j, "idle_connections_lost", r->whole.idle_lost);
    json_bool(j, "drained", r->drained);
    json_bool(j, "interrupted", r->interrupted);
    json_close(j, '}');
}

static void cost_json(const struct bench_result *r, struct json *j) {
    const struct bench_counts *c = &r->measured;
    json_open(j, "client", '{');
    number(j, "cpu_ns", r->own_cpu_ns);
    number(j, "cpu_ns_per_gb", cpu_per_gb(r->own_cpu_ns, c->in_bytes + c->out_bytes));
    number(j, "busy_percent", busy_percent(r));
    json_close(j, '}');
    if (!r->settings->broker_pid) return;
    json_open(j, "broker", '{');
    number(j, "pid", r->settings->broker_pid);
    number(j, "cpu_ns", broker_cpu_ns(r));
    number(j, "cpu_ns_per_gb_in", cpu_per_gb(broker_cpu_ns(r), c->in_bytes));
    number(j, "cpu_ns_per_gb_out", cpu_per_gb(broker_cpu_ns(r), c->out_bytes));
    number(j, "cpu_ns_per_gb", cpu_per_gb(broker_cpu_ns(r), c->in_bytes + c->out_bytes));
    number(j, "resident_bytes_before", r->broker_before.resident_bytes);
    number(j, "resident_bytes_after", r->broker_after.resident_bytes);
    number(j, "resident_bytes_peak", r->broker_after.peak_bytes);
    json_close(j, '}');
}

static void rows_json(const struct bench_result *r, struct json *j) {
    json_open(j, "series", '[');
    for (size_t i = 0; i < r->row_count; i++) {
        const struct bench_row *row = &r->rows[i];
        json_open(j, NULL, '{');
        number(j, "second", row->second);
        number(j, "took_ns", row->took_ns);
        json_bool(j, "measured", row->measured);
        number(j, "records_acked", row->in_records);
        number(j, "bytes_acked", row->in_bytes);
        number(j, "records_consumed", row->out_records);
        number(j, "bytes_consumed", row->out_bytes);
        number(j, "errors", row->errors);
        number(j, "produce_p50_us", row->produce_p50);
        number(j, "produce_p99_us", row->produce_p99);
        number(j, "produce_max_us", row->produce_max);
        number(j, "end_to_end_p50_us", row->end_p50);
        number(j, "end_to_end_p99_us", row->end_p99);
        number(j, "end_to_end_max_us", row->end_max);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void bench_report_json(const struct bench_result *r, struct buf *out) {
    struct json j;
    json_init(&j, out);
    json_open(&j, NULL, '{');
    settings_json(r->settings, &j);
    totals_json(r, &j);
    json_open(&j, "latency", '{');
    json_text(&j, "produce_from", r->settings->rate ? "due" : "sent");
    latency_json(&j, "produce", &r->measured.produce);
    latency_json(&j, "end_to_end", &r->measured.end_to_end);
    json_close(&j, '}');
    if (r->backlog_records) {
        json_open(&j, "backlog", '{');
        number(&j, "records", r->backlog_records);
        number(&j, "bytes", r->backlog_bytes);
        number(&j, "written_ns", r->backlog_ns);
        number(&j, "caught_up_ns", r->caught_up_ns);
        json_close(&j, '}');
    }
    cost_json(r, &j);
    json_open(&j, "errors", '{');
    for (size_t i = 0; i < BENCH_CODES; i++) {
        char name[32];
        if (r->whole.errors[i]) number(&j, code_name(i, name), r->whole.errors[i]);
    }
    json_close(&j, '}');
    rows_json(r, &j);
    json_close(&j, '}');
    buf_u8(out, '\n');
}

/* --- Pictures. */

static void subtitle_make(const struct bench_settings *s, char out[TITLE_SIZE]) {
    char rate[64] = "full speed";
    if (s->rate)
        (void)snprintf(rate, sizeof(rate), "%" PRIu64 " %s/s", s->rate, s->rate_unit > 1 ? "bytes" : "records");
    (void)snprintf(out, TITLE_SIZE,
                   "topic %.100s; producers %" PRIu64 ", %s, %" PRIu64
                   " bytes a record, acks %s, %s; consumers %" PRIu64,
                   s->topic, s->producers, rate, s->record_size,
                   s->acks < 0 ? "all"
                   : s->acks   ? "1"
                               : "0",
                   kafka_codec_name(s->codec), s->consumers);
}

enum err bench_file_write(struct client *c, const char *path, const struct buf *b) {
    struct env_file *f = NULL;
    enum err e = env_file_remove(c->env, path); /* it may be longer */
    if (e == ERR_NOT_FOUND) e = OK;
    if (e == OK) e = env_file_open(c->env, path, ENV_FILE_CREATE, &f);
    if (e == OK) {
        e = env_file_write(c->env, f, 0, &(struct env_bytes){b->data, b->size}, 1);
        env_file_close(c->env, f);
    }
    return e == OK ? OK : client_fail(c, e, "cannot write %s: %s", path, err_text(e));
}

static enum err picture_write(struct client *c, const char *folder, const char *name, const struct buf *b) {
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    enum err e = env_dir_make(c->env, folder);
    return e == OK ? bench_file_write(c, path, b) : client_fail(c, e, "cannot make %s: %s", folder, err_text(e));
}

/* One number of each row, as a line; -1 where there is none. */
static struct svg_line row_line(const char *name, const struct bench_result *r, struct arena *a, const double *x,
                                size_t offset, bool rate) {
    double *y = ARENA_ARRAY(a, double, r->row_count + 1);
    for (size_t i = 0; i < r->row_count; i++) {
        const struct bench_row *row = &r->rows[i];
        uint64_t v;
        memcpy(&v, (const uint8_t *)row + offset, sizeof(v));
        y[i] = rate ? (double)per_second(v, row->took_ns) / 1e6 : v ? (double)v : -1;
    }
    return (struct svg_line){name, x, y, r->row_count};
}

static struct svg_line percentile_line(const char *name, const struct histogram *h, struct arena *a,
                                       const struct svg_mark *marks, const double *percents, size_t count) {
    double *x = ARENA_ARRAY(a, double, count), *y = ARENA_ARRAY(a, double, count);
    for (size_t i = 0; i < count; i++) {
        x[i] = marks[i].at;
        y[i] = h->count ? (double)histogram_percentile(h, percents[i]) : -1;
    }
    return (struct svg_line){name, x, y, count};
}

#define ROW_FIELD(field) offsetof(struct bench_row, field)

enum err bench_report_svg(struct client *c, const struct bench_result *r, const char *folder) {
    /* Evenly spaced by how rare they are, as HdrHistogram's plots. */
    static const struct svg_mark marks[] = {{0, "0"},     {1, "50"},    {2, "75"},      {3, "90"},
                                            {4, "95"},    {5, "99"},    {6, "99.5"},    {7, "99.9"},
                                            {8, "99.95"}, {9, "99.99"}, {10, "99.999"}, {11, "100"}};
    static const double percents[] = {0, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100};
    static_assert(ARRAY_LEN(marks) == ARRAY_LEN(percents), "each mark has its percentile");
    char subtitle[TITLE_SIZE];
    struct arena a;
    struct buf b;
    arena_init(&a, &c->mem);
    buf_init(&b, &c->mem);
    subtitle_make(r->settings, subtitle);
    double *x = ARENA_ARRAY(&a, double, r->row_count + 1);
    for (size_t i = 0; i < r->row_count; i++) x[i] = (double)r->rows[i].second + 0.5;
    struct svg_chart over_time = {.title = "Latency over time",
                                  .subtitle = subtitle,
                                  .x_name = "second",
                                  .x_whole = true,
                                  .y_name = "microseconds",
                                  .y_log = true,
                                  .y_least = 10,
                                  .shade_to = seconds(r->settings->warm_up_ns),
                                  .line_count = 6,
                                  .lines = {row_line("produce p50", r, &a, x, ROW_FIELD(produce_p50), false),
                                            row_line("produce p99", r, &a, x, ROW_FIELD(produce_p99), false),
                                            row_line("produce max", r, &a, x, ROW_FIELD(produce_max), false),
                                            row_line("end to end p50", r, &a, x, ROW_FIELD(end_p50), false),
                                            row_line("end to end p99", r, &a, x, ROW_FIELD(end_p99), false),
                                            row_line("end to end max", r, &a, x, ROW_FIELD(end_max), false)}};
    struct svg_chart curve = {
        .title = "Latency by percentile",
        .subtitle = subtitle,
        .x_name = "percentile",
        .y_name = "microseconds",
        .y_log = true,
        .y_least = 10,
        .marks = marks,
        .mark_count = ARRAY_LEN(marks),
        .line_count = 2,
        .lines = {percentile_line("produce", &r->measured.produce, &a, marks, percents, ARRAY_LEN(marks)),
                  percentile_line("end to end", &r->measured.end_to_end, &a, marks, percents, ARRAY_LEN(marks))}};
    struct svg_chart flow = {.title = "Throughput over time",
                             .subtitle = subtitle,
                             .x_name = "second",
                             .x_whole = true,
                             .y_name = "MB/s of keys and values",
                             .shade_to = seconds(r->settings->warm_up_ns),
                             .line_count = 2,
                             .lines = {row_line("in", r, &a, x, ROW_FIELD(in_bytes), true),
                                       row_line("out", r, &a, x, ROW_FIELD(out_bytes), true)}};
    static const char *const names[] = {"latency.svg", "percentiles.svg", "throughput.svg"};
    const struct svg_chart *const charts[] = {&over_time, &curve, &flow};
    enum err e = OK;
    for (size_t i = 0; e == OK && i < ARRAY_LEN(charts); i++) {
        b.size = 0;
        svg_chart_draw(charts[i], &b);
        e = picture_write(c, folder, names[i], &b);
    }
    buf_deinit(&b);
    arena_deinit(&a);
    return e;
}

/* `oxbow cost`: what a running broker's object store costs, by its metrics page; cost.h does the sums. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "cli/cost.h"
#include "cli/inspect.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/process.h"
#include "store/http.h"

#define PAGE_BYTES_MAX ((size_t)64 << 20)
#define TIMEOUT_NS (20 * NS_PER_S)
#define GB 1e9
#define CELL_SIZE 32u

struct cost_job {
    const char *url, *files[2], *prices;
    size_t file_count;
    uint64_t interval_s;
    bool json, list;
    struct cost_settings settings;
    struct mem mem; /* the heap; outlives the environment */
    struct cost_sample used;
    bool since_start;
};

/* --- Pages. */

static void take_page(struct inspect *x, const char *where, const char *text, size_t size, struct cost_sample *out) {
    if (!cost_parse(text, size, out))
        inspect_fails(x, where, "this is not the metrics page of a broker that counts what its store bills",
                      ERR_INVALID);
}

static void page_fetch(struct inspect *x, struct http_client *http, const char *url, struct cost_sample *out) {
    struct http_request q = {.method = HTTP_GET,
                             .url = url,
                             .connect_timeout_ns = TIMEOUT_NS,
                             .total_timeout_ns = TIMEOUT_NS,
                             .response_max_bytes = PAGE_BYTES_MAX};
    struct http_response r;
    char why[64] = "";
    enum err e = http_exchange(http, &q, &r);
    if (e == OK && r.status == 200) {
        take_page(x, url, (const char *)r.body.data, r.body.size, out);
    } else {
        if (e == OK) (void)snprintf(why, sizeof(why), "the answer was HTTP status %u", r.status);
        inspect_fails(x, url, why[0] ? why : r.why, e == OK ? ERR_PROTOCOL : e);
    }
    http_response_deinit(&r);
}

static void page_read(struct inspect *x, struct cost_job *j, const char *path, struct cost_sample *out) {
    char why[512] = "";
    struct buf text;
    buf_init(&text, &j->mem);
    enum err e = process_read_file(path, &text, why, sizeof(why));
    if (e == OK) {
        take_page(x, path, (const char *)text.data, text.size, out);
    } else {
        fprintf(stderr, "oxbow cost: %s\n", why); /* it names the file */
        x->status = EXIT_FAILED;
    }
    buf_deinit(&text);
}

static void pages_fetch(struct inspect *x, struct cost_job *j, struct cost_sample pages[2], size_t *count) {
    struct http_client *http;
    const char *why = NULL;
    enum err e = http_client_create(&(struct http_options){.env = x->env}, &http, &why);
    if (e != OK) {
        inspect_fails(x, j->url, why, e);
        return;
    }
    page_fetch(x, http, j->url, &pages[(*count)++]);
    if (x->status == EXIT_DONE && j->interval_s) {
        fiber_sleep_ns(j->interval_s * NS_PER_S);
        page_fetch(x, http, j->url, &pages[(*count)++]);
    }
    http_client_close(http);
}

static void cost_main(struct inspect *x, void *arg) {
    struct cost_job *j = arg;
    struct cost_sample pages[2];
    size_t count = 0;
    if (j->url) pages_fetch(x, j, pages, &count);
    for (size_t i = 0; i < j->file_count && x->status == EXIT_DONE; i++) page_read(x, j, j->files[i], &pages[count++]);
    if (x->status != EXIT_DONE) return;
    j->since_start = count == 1;
    const char *why = cost_between(count == 2 ? &pages[0] : NULL, &pages[count - 1], &j->used);
    if (why) inspect_fails(x, j->url ? j->url : j->files[count - 1], why, ERR_INVALID);
}

/* --- Tables. */

/* Few digits: "0", "0.0123", "12.3", "123456". */
static void table_real(struct table *t, double v) {
    char text[CELL_SIZE];
    double size = fabs(v);
    int digits = size == 0 || size >= 999.5 ? 0 : size >= 99.5 ? 1 : size >= 0.995 ? 2 : size >= 0.01 ? 4 : 6;
    (void)snprintf(text, sizeof(text), "%.*f", digits, v);
    table_text(t, text);
}

static void table_dollars(struct table *t, double v) {
    char text[CELL_SIZE];
    (void)snprintf(text, sizeof(text), "%.2f", v);
    table_text(t, text);
}

/* One row of requests; per GB produced only where something was. */
static void row_add(struct table *t, const struct cost_job *j, const char *what, const char *purpose,
                    enum cost_class class, double requests, double bytes) {
    double gb = j->used.produced_bytes / GB, hours = j->used.uptime_s / 3600;
    double usd = cost_of_requests(&j->settings, class, requests);
    table_text(t, what);
    table_text(t, purpose);
    table_real(t, requests);
    table_real(t, requests / hours);
    table_real(t, usd / hours * j->settings.values[COST_MONTH_HOURS]);
    if (gb > 0) {
        table_real(t, requests / gb);
        table_real(t, bytes / 1e6 / gb);
        table_real(t, usd / gb);
    } else {
        for (unsigned i = 0; i < 3; i++) table_text(t, "");
    }
}

static void requests_print(struct cost_job *j, struct buf *out) {
    static const char *const headers[] = {"REQUEST",   "PURPOSE",       "COUNT",   "AN HOUR",
                                          "$ A MONTH", "A GB PRODUCED", "MB A GB", "$ A GB"};
    static const char *const names[COST_CLASSES] = {"all PUT and LIST", "all GET", "all free"};
    const struct cost_sample *u = &j->used;
    double requests[COST_CLASSES] = {0}, bytes[COST_CLASSES] = {0};
    struct table t;
    table_init(&t, &j->mem, headers, ARRAY_LEN(headers), 0xfc);
    for (unsigned op = 0; op < STORE_OPS; op++) {
        enum cost_class class = cost_class_of((enum store_op)op);
        for (unsigned p = 0; p < STORE_PURPOSES; p++) {
            requests[class] += u->requests[op][p];
            bytes[class] += u->bytes[op][p];
            if (u->requests[op][p] > 0)
                row_add(&t, j, store_op_name((enum store_op)op), store_purpose_name((enum store_purpose)p), class,
                        u->requests[op][p], u->bytes[op][p]);
        }
    }
    for (unsigned c = 0; c < COST_CLASSES; c++) row_add(&t, j, names[c], "", (enum cost_class)c, requests[c], bytes[c]);
    for (unsigned c = 0; c < COST_CLASS_FREE && u->s3; c++) {
        if (u->sent[c] > requests[c])
            row_add(&t, j, "sent again", c == COST_CLASS_GET ? "GET" : "PUT and LIST", (enum cost_class)c,
                    u->sent[c] - requests[c], 0);
    }
    table_print(&t, out);
    table_deinit(&t);
}

static void bill_print(struct cost_job *j, struct buf *out) {
    static const char *const headers[] = {"$ A MONTH", "OXBOW", "KAFKA"};
    struct cost_bill bill;
    struct table t;
    cost_bill_make(&j->used, &j->settings, &bill);
    table_init(&t, &j->mem, headers, ARRAY_LEN(headers), 6);
    for (unsigned i = 0; i < COST_LINES; i++) {
        if (bill.oxbow[i] == 0 && bill.kafka[i] == 0) continue;
        table_text(&t, cost_line_names[i]);
        table_dollars(&t, bill.oxbow[i]);
        table_dollars(&t, bill.kafka[i]);
    }
    table_text(&t, "in all");
    table_dollars(&t, bill.oxbow_total);
    table_dollars(&t, bill.kafka_total);
    table_print(&t, out);
    table_deinit(&t);
}

static void report_print(struct cost_job *j, struct buf *out) {
    const struct cost_sample *u = &j->used;
    const double *v = j->settings.values;
    buf_printf(out, "%s %.0f s: %.3f GB produced (%.1f MB/s), %.3f GB consumed\n\n",
               j->since_start ? "since the start," : "in", u->uptime_s, u->produced_bytes / GB,
               u->produced_bytes / 1e6 / u->uptime_s, u->consumed_bytes / GB);
    requests_print(j, out);
    buf_printf(
        out,
        "\nA month like this, by the prices of %s; records kept for %g hours; Kafka with %g replicas in %g zones (`oxbow cost --list`):\n\n",
        j->prices, v[COST_RETENTION_HOURS], v[COST_KAFKA_REPLICAS], v[COST_ZONES]);
    bill_print(j, out);
}

static void report_json(struct cost_job *j, struct buf *out) {
    const struct cost_sample *u = &j->used;
    struct cost_bill bill;
    struct json json;
    cost_bill_make(u, &j->settings, &bill);
    json_init(&json, out);
    json_open(&json, NULL, '{');
    json_real(&json, "seconds", u->uptime_s);
    json_real(&json, "produced_bytes", u->produced_bytes);
    json_real(&json, "consumed_bytes", u->consumed_bytes);
    json_text(&json, "prices", j->prices);
    json_open(&json, "requests", '[');
    double totals[COST_CLASSES] = {0};
    for (unsigned op = 0; op < STORE_OPS; op++) {
        for (unsigned p = 0; p < STORE_PURPOSES; p++) {
            totals[cost_class_of((enum store_op)op)] += u->requests[op][p];
            if (u->requests[op][p] == 0) continue;
            json_open(&json, NULL, '{');
            json_text(&json, "op", store_op_name((enum store_op)op));
            json_text(&json, "purpose", store_purpose_name((enum store_purpose)p));
            json_real(&json, "count", u->requests[op][p]);
            json_real(&json, "bytes", u->bytes[op][p]);
            json_close(&json, '}');
        }
    }
    json_close(&json, ']');
    json_real(&json, "puts", totals[COST_CLASS_PUT]);
    json_real(&json, "gets", totals[COST_CLASS_GET]);
    json_real(&json, "requests_usd_per_month", bill.requests);
    for (unsigned side = 0; side < 2; side++) {
        json_open(&json, side ? "kafka_usd_per_month" : "oxbow_usd_per_month", '{');
        for (unsigned i = 0; i < COST_LINES; i++)
            json_real(&json, cost_line_names[i], side ? bill.kafka[i] : bill.oxbow[i]);
        json_real(&json, "in all", side ? bill.kafka_total : bill.oxbow_total);
        json_close(&json, '}');
    }
    json_open(&json, "settings", '{');
    for (unsigned i = 0; i < COST_SETTINGS; i++) json_real(&json, cost_setting_rows[i].key, j->settings.values[i]);
    json_close(&json, '}');
    json_close(&json, '}');
    buf_u8(out, '\n');
}

static void settings_print(struct cost_job *j, struct buf *out) {
    static const char *const headers[] = {"KEY", "VALUE", "UNIT", "WHAT"};
    struct table t;
    table_init(&t, &j->mem, headers, ARRAY_LEN(headers), 2);
    for (unsigned i = 0; i < COST_SETTINGS; i++) {
        char text[CELL_SIZE];
        (void)snprintf(text, sizeof(text), "%g", j->settings.values[i]);
        table_text(&t, cost_setting_rows[i].key);
        table_text(&t, text);
        table_text(&t, cost_setting_rows[i].unit);
        table_text(&t, cost_setting_rows[i].what);
    }
    table_print(&t, out);
    table_deinit(&t);
}

/* --- The command line. */

enum cost_option { OPT_URL, OPT_FILE, OPT_INTERVAL, OPT_PRICES, OPT_SET, OPT_LIST, OPT_JSON };
static const struct option_spec specs[] = {
    [OPT_URL] = {0, "metrics-url", "URL"},
    [OPT_FILE] = {0, "metrics-file", "FILE"},
    [OPT_INTERVAL] = {0, "interval", "SECONDS"},
    [OPT_PRICES] = {0, "prices", "NAME"},
    [OPT_SET] = {0, "set", "key=NUMBER"},
    [OPT_LIST] = {0, "list", NULL},
    [OPT_JSON] = {0, "json", NULL},
};

#define SETS_MAX 64u

/* What was expected, or NULL. Settings are kept for later: the prices they change may be named behind them. */
static const char *option_take(struct cost_job *j, int i, const char *value, const char **sets, size_t *set_count) {
    switch (i) {
    case OPT_URL:
        j->url = value;
        return strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0 ? NULL : "an http:// URL";
    case OPT_FILE:
        if (j->file_count == ARRAY_LEN(j->files)) return "one or two files";
        j->files[j->file_count++] = value;
        return NULL;
    case OPT_INTERVAL:
        return options_u64(value, 1, 86400 * 31, &j->interval_s) ? NULL : "seconds, 1 to 2678400";
    case OPT_PRICES:
        j->prices = value;
        return cost_settings_init(&j->settings, value) ? NULL : "s3-standard or s3-express";
    case OPT_SET:
        if (*set_count == SETS_MAX) return "at most 64 settings";
        sets[(*set_count)++] = value;
        return cost_settings_set(&j->settings, value);
    case OPT_LIST:
        j->list = true;
        return NULL;
    default:
        j->json = true;
        return NULL;
    }
}

static int cost_report(struct cost_job *j) {
    struct buf out;
    buf_init(&out, &j->mem);
    if (j->list) {
        settings_print(j, &out);
    } else if (j->json) {
        report_json(j, &out);
    } else {
        report_print(j, &out);
    }
    int status = output_write(&out, "cost");
    buf_deinit(&out);
    return status;
}

static int cost_run(int argc, char **argv) {
    struct cost_job j = {.prices = "s3-standard"};
    const char *sets[SETS_MAX];
    size_t set_count = 0;
    struct options o;
    mem_init_heap(&j.mem);
    (void)cost_settings_init(&j.settings, j.prices);
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "only options");
        const char *expected = option_take(&j, i, o.value, sets, &set_count);
        if (expected) return options_refuse(&o, expected);
    }
    (void)cost_settings_init(&j.settings, j.prices);
    for (size_t i = 0; i < set_count; i++) (void)cost_settings_set(&j.settings, sets[i]);
    if (j.list) return cost_report(&j);
    if ((j.url != NULL) == (j.file_count > 0) || (j.interval_s && !j.url)) {
        fprintf(stderr,
                "oxbow cost: expected --metrics-url URL [--interval SECONDS], or --metrics-file FILE once or twice\n");
        return EXIT_USAGE;
    }
    struct inspect x = {0};
    int status = inspect_in_env(&x, "cost", cost_main, &j);
    return status == EXIT_DONE ? cost_report(&j) : status;
}

const struct command command_cost = {
    "cost",
    "tells what a broker's object store costs, beside Kafka's bill",
    "usage: oxbow cost --metrics-url URL [--interval SECONDS] [OPTION]...\n"
    "       oxbow cost --metrics-file FILE [--metrics-file LATER] [OPTION]...\n"
    "       oxbow cost --list [--prices NAME] [--set key=NUMBER]...\n\n"
    "Reads the metrics page of a broker (http.listen), at http://HOST:PORT/metrics or as it was saved, and prints the\n"
    "requests and bytes of its object store by operation and purpose: in all, an hour, and for each GB produced; and a\n"
    "month's bill, beside that of a Kafka in several zones under the same load. Since the broker's start, or between\n"
    "two pages.\n\n"
    "      --metrics-url URL         the page of a broker\n"
    "      --interval SECONDS        ... and again after so long: what happened in between\n"
    "      --metrics-file FILE       a saved page; given twice: the earlier and the later one\n"
    "      --prices NAME             s3-standard (default) or s3-express; us-east-1\n"
    "      --set key=NUMBER          a price or an assumption\n"
    "      --list                    only prints prices and assumptions\n"
    "      --json                    one JSON object\n\n"
    "A folder's requests are counted as a bucket would bill them. docs/cost.md says how each line is computed.\n",
    cost_run,
};

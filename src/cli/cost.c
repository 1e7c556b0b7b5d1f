#include "cli/cost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define GB 1e9

/* --- The metrics page. */

enum cost_class cost_class_of(enum store_op op) {
    switch (op) {
    case STORE_GET:
        return COST_CLASS_GET;
    case STORE_DELETE:
        return COST_CLASS_FREE;
    default:
        return COST_CLASS_PUT;
    }
}

struct line {
    const char *name, *labels;
    size_t name_size, labels_size;
    double value;
};

/* `name{labels} value`, without its end of line. */
static bool line_parse(const char *text, size_t size, struct line *out) {
    const char *end = text + size, *space = memrchr(text, ' ', size);
    if (size == 0 || *text == '#' || !space) return false;
    const char *brace = memchr(text, '{', (size_t)(space - text));
    *out = (struct line){.name = text, .name_size = (size_t)((brace ? brace : space) - text)};
    if (brace) {
        out->labels = brace + 1;
        out->labels_size = (size_t)(space - brace - 1);
    }
    char number[32];
    size_t digits = (size_t)(end - space - 1);
    if (digits == 0 || digits >= sizeof(number)) return false;
    memcpy(number, space + 1, digits);
    number[digits] = '\0';
    char *rest;
    out->value = strtod(number, &rest);
    return *rest == '\0' && out->value >= 0 && out->value < 1e300;
}

static bool line_is(const struct line *l, const char *name) {
    return l->name_size == strlen(name) && memcmp(l->name, name, l->name_size) == 0;
}

/* Is the label's value this one? Values of these labels are names of ours: nothing in them is escaped. */
static bool label_is(const struct line *l, const char *label, const char *value) {
    char wanted[64];
    int n = snprintf(wanted, sizeof(wanted), "%s=\"%s\"", label, value);
    ASSERT(n > 0 && (size_t)n < sizeof(wanted));
    return l->labels && memmem(l->labels, l->labels_size, wanted, (size_t)n);
}

static void take_by_purpose(const struct line *l, double counts[STORE_OPS][STORE_PURPOSES]) {
    for (unsigned op = 0; op < STORE_OPS; op++) {
        if (!label_is(l, "op", store_op_name((enum store_op)op))) continue;
        for (unsigned p = 0; p < STORE_PURPOSES; p++) {
            if (label_is(l, "purpose", store_purpose_name((enum store_purpose)p))) counts[op][p] += l->value;
        }
    }
}

/* What S3 answers itself with 5xx, 409 or 429 is not on the bill, and what never left is not. */
static void take_sent(const struct line *l, struct cost_sample *s) {
    static const char *const free_outcomes[] = {"busy", "failed", "unreachable"};
    s->s3 = true;
    for (size_t i = 0; i < ARRAY_LEN(free_outcomes); i++) {
        if (label_is(l, "outcome", free_outcomes[i])) return;
    }
    bool free_op = label_is(l, "op", "delete") || label_is(l, "op", "abort");
    s->sent[free_op ? COST_CLASS_FREE : label_is(l, "op", "get") ? COST_CLASS_GET : COST_CLASS_PUT] += l->value;
}

static double label_number(const struct line *l, const char *label) {
    char wanted[64];
    int n = snprintf(wanted, sizeof(wanted), "%s=\"", label);
    const char *at = l->labels ? memmem(l->labels, l->labels_size, wanted, (size_t)n) : NULL;
    double v = 0;
    for (at = at ? at + n : ""; *at >= '0' && *at <= '9'; at++) v = v * 10 + (*at - '0');
    return v;
}

bool cost_parse(const char *text, size_t size, struct cost_sample *out) {
    *out = (struct cost_sample){0};
    bool uptime = false, counts = false;
    for (const char *at = text, *end = text + size; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        struct line l;
        bool is_line = line_parse(at, (size_t)(stop - at), &l);
        at = stop + (stop < end);
        if (!is_line) continue;
        if (line_is(&l, "oxbow_uptime_seconds")) {
            out->uptime_s = l.value;
            uptime = true;
        } else if (line_is(&l, "oxbow_store_billed_requests_total")) {
            take_by_purpose(&l, out->requests);
            counts = true;
        } else if (line_is(&l, "oxbow_store_bytes_total")) {
            take_by_purpose(&l, out->bytes);
        } else if (line_is(&l, "oxbow_s3_requests_total")) {
            take_sent(&l, out);
        } else if (line_is(&l, "oxbow_topic_received_bytes_total")) {
            out->produced_bytes += l.value;
        } else if (line_is(&l, "oxbow_topic_sent_bytes_total")) {
            out->consumed_bytes += l.value;
        } else if (line_is(&l, "oxbow_wal_size_bytes")) {
            out->wal_size_bytes = l.value;
        } else if (line_is(&l, "oxbow_broker_info")) {
            out->incarnation = label_number(&l, "incarnation");
        }
    }
    return uptime && counts;
}

static double beyond(double before, double after) {
    return after > before ? after - before : 0; /* topics go, and their counts with them */
}

const char *cost_between(const struct cost_sample *before, const struct cost_sample *after, struct cost_sample *out) {
    *out = *after;
    if (!before) return after->uptime_s > 0 ? NULL : "the broker has only just begun";
    if (before->incarnation != after->incarnation) return "the broker was started anew between the two";
    if (after->uptime_s <= before->uptime_s) return "the second page is not the later one";
    out->uptime_s = after->uptime_s - before->uptime_s;
    for (unsigned op = 0; op < STORE_OPS; op++) {
        for (unsigned p = 0; p < STORE_PURPOSES; p++) {
            out->requests[op][p] = beyond(before->requests[op][p], after->requests[op][p]);
            out->bytes[op][p] = beyond(before->bytes[op][p], after->bytes[op][p]);
        }
    }
    for (unsigned c = 0; c < COST_CLASSES; c++) out->sent[c] = beyond(before->sent[c], after->sent[c]);
    out->produced_bytes = beyond(before->produced_bytes, after->produced_bytes);
    out->consumed_bytes = beyond(before->consumed_bytes, after->consumed_bytes);
    return NULL;
}

/* --- Settings. */

const struct cost_setting_row cost_setting_rows[COST_SETTINGS] = {
#define COST_SETTING(id, key, standard, express, unit, what) [id] = {key, unit, what, standard, express},
#include "cli/cost_table.h"
};

bool cost_settings_init(struct cost_settings *s, const char *prices) {
    bool express = strcmp(prices, "s3-express") == 0;
    if (!express && strcmp(prices, "s3-standard") != 0) return false;
    for (unsigned i = 0; i < COST_SETTINGS; i++)
        s->values[i] = express ? cost_setting_rows[i].express : cost_setting_rows[i].standard;
    return true;
}

const char *cost_settings_set(struct cost_settings *s, const char *text) {
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : 0;
    for (unsigned i = 0; i < COST_SETTINGS && equals; i++) {
        const struct cost_setting_row *r = &cost_setting_rows[i];
        if (strlen(r->key) != size || memcmp(r->key, text, size) != 0) continue;
        char *rest;
        double v = strtod(equals + 1, &rest);
        bool divides = i == COST_KAFKA_FILL || i == COST_ZONES;
        if (rest == equals + 1 || *rest || !(v >= 0 && v < 1e12)) return "key=NUMBER, not below 0";
        if (divides && v == 0) return "a number above 0 for this key";
        s->values[i] = v;
        return NULL;
    }
    return "key=NUMBER with a key that `oxbow cost --list` shows";
}

/* --- The bill. */

const char *const cost_line_names[COST_LINES] = {
    [COST_LINE_PUTS] = "PUT and LIST requests",
    [COST_LINE_GETS] = "GET requests",
    [COST_LINE_REPEATS] = "requests sent again",
    [COST_LINE_TRANSFER] = "bytes into and out of the store",
    [COST_LINE_STORAGE] = "storage",
    [COST_LINE_DISKS] = "disks",
    [COST_LINE_REPLICATION] = "replication between zones",
    [COST_LINE_PRODUCERS] = "producers in another zone",
    [COST_LINE_CONSUMERS] = "consumers in another zone",
    [COST_LINE_INSTANCES] = "instances",
};

double cost_of_requests(const struct cost_settings *s, enum cost_class class, double requests) {
    switch (class) {
    case COST_CLASS_PUT:
        return requests / 1000 * s->values[COST_PUT_USD];
    case COST_CLASS_GET:
        return requests / 1000 * s->values[COST_GET_USD];
    default:
        return 0;
    }
}

/* What Oxbow's store bills, for the time that was looked at. */
static void store_make(const struct cost_sample *u, const struct cost_settings *s, double out[COST_LINES]) {
    double requests[COST_CLASSES] = {0}, in = 0, read = 0;
    for (unsigned op = 0; op < STORE_OPS; op++) {
        for (unsigned p = 0; p < STORE_PURPOSES; p++) {
            requests[cost_class_of((enum store_op)op)] += u->requests[op][p];
            *(op == STORE_GET ? &read : &in) += u->bytes[op][p];
        }
    }
    out[COST_LINE_PUTS] = cost_of_requests(s, COST_CLASS_PUT, requests[COST_CLASS_PUT]);
    out[COST_LINE_GETS] = cost_of_requests(s, COST_CLASS_GET, requests[COST_CLASS_GET]);
    for (unsigned c = 0; c < COST_CLASSES && u->s3; c++) {
        if (u->sent[c] > requests[c])
            out[COST_LINE_REPEATS] += cost_of_requests(s, (enum cost_class)c, u->sent[c] - requests[c]);
    }
    out[COST_LINE_TRANSFER] = in / GB * s->values[COST_IN_USD] + read / GB * s->values[COST_OUT_USD];
}

void cost_bill_make(const struct cost_sample *u, const struct cost_settings *s, struct cost_bill *out) {
    const double *v = s->values;
    *out = (struct cost_bill){0};
    ASSERT(u->uptime_s > 0);
    double months = u->uptime_s / 3600 / v[COST_MONTH_HOURS];
    double produced = u->produced_bytes / GB / months, consumed = u->consumed_bytes / GB / months; /* GB a month */
    double kept = u->produced_bytes / GB / (u->uptime_s / 3600) * v[COST_RETENTION_HOURS];
    double elsewhere =
        (v[COST_ZONES] - 1) / v[COST_ZONES]; /* the share of clients that are in another zone than a leader */
    store_make(u, s, out->oxbow);
    for (unsigned i = 0; i <= COST_LINE_TRANSFER; i++) {
        out->oxbow[i] /= months;
        out->requests += out->oxbow[i];
    }
    out->oxbow[COST_LINE_STORAGE] = kept * v[COST_STORAGE_USD];
    out->oxbow[COST_LINE_DISKS] = u->wal_size_bytes / GB * v[COST_DISK_USD] * v[COST_OXBOW_INSTANCES];
    out->oxbow[COST_LINE_INSTANCES] = v[COST_OXBOW_INSTANCES] * v[COST_INSTANCE_USD] * v[COST_MONTH_HOURS];
    out->kafka[COST_LINE_DISKS] = kept * v[COST_KAFKA_REPLICAS] / v[COST_KAFKA_FILL] * v[COST_DISK_USD];
    double followers = v[COST_KAFKA_REPLICAS] > 1 ? v[COST_KAFKA_REPLICAS] - 1 : 0;
    out->kafka[COST_LINE_REPLICATION] = produced * followers * v[COST_ZONE_USD];
    out->kafka[COST_LINE_INSTANCES] = v[COST_KAFKA_INSTANCES] * v[COST_INSTANCE_USD] * v[COST_MONTH_HOURS];
    /* Clients ask the leader, wherever it is, of either: Oxbow does not route by zone. */
    out->oxbow[COST_LINE_PRODUCERS] = out->kafka[COST_LINE_PRODUCERS] = produced * elsewhere * v[COST_ZONE_USD];
    out->oxbow[COST_LINE_CONSUMERS] = consumed * elsewhere * v[COST_ZONE_USD];
    out->kafka[COST_LINE_CONSUMERS] = v[COST_CONSUMERS_CROSS] * out->oxbow[COST_LINE_CONSUMERS];
    for (unsigned i = 0; i < COST_LINES; i++) {
        out->oxbow_total += out->oxbow[i];
        out->kafka_total += out->kafka[i];
    }
}

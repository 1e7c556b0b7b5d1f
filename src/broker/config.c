#include "broker/config_priv.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/nearest.h"
#include "broker/properties.h"
#include "broker/url.h"
#include "partition/topic_config.h"

/* --- The table, as data. */

#define CONFIG_SECTION(title)
#define CONFIG_BOOL(f, n, d, t) [CONFIG_##f] = {n, CONFIG_TYPE_BOOL, "", 0, 1, t},
#define CONFIG_INT(f, n, d, lo, hi, t) [CONFIG_##f] = {n, CONFIG_TYPE_INT, "", lo, hi, t},
#define CONFIG_LONG(f, n, d, lo, hi, t) [CONFIG_##f] = {n, CONFIG_TYPE_LONG, "", lo, hi, t},
#define CONFIG_DOUBLE(f, n, d, lo, hi, t) [CONFIG_##f] = {n, CONFIG_TYPE_DOUBLE, "", lo, hi, t},
#define CONFIG_COUNT(f, n, lo, hi, t) [CONFIG_##f] = {n, CONFIG_TYPE_COUNT, "", lo, hi, t},
#define CONFIG_SIZE(f, n, d, lo, hi, t) [CONFIG_##f] = {n, CONFIG_TYPE_SIZE, "", lo, hi, t},
#define CONFIG_STRING(f, n, d, t) [CONFIG_##f] = {n, CONFIG_TYPE_STRING, "", 0, 0, t},
#define CONFIG_LIST(f, n, d, v, t) [CONFIG_##f] = {n, CONFIG_TYPE_LIST, v, 0, 0, t},
#define CONFIG_ENUM(f, n, d, v, t) [CONFIG_##f] = {n, CONFIG_TYPE_ENUM, v, 0, 0, t},
#define CONFIG_ALIAS(name, of, factor, rank)
static const struct config_row rows[CONFIG_PROPERTIES] = {
#include "broker/config_table.h"
};

struct row_more { /* what config_row() does not show */
    size_t offset;
    int64_t number;   /* default of the types that are numbers */
    const char *text; /* default of the types that are text, ENUM included */
};
#define AT(f) offsetof(struct config, f)
#define CONFIG_SECTION(title)
#define CONFIG_BOOL(f, n, d, t) [CONFIG_##f] = {AT(f), d, NULL},
#define CONFIG_INT(f, n, d, lo, hi, t) [CONFIG_##f] = {AT(f), d, NULL},
#define CONFIG_LONG(f, n, d, lo, hi, t) [CONFIG_##f] = {AT(f), d, NULL},
#define CONFIG_DOUBLE(f, n, d, lo, hi, t) [CONFIG_##f] = {AT(f), 0, d},
#define CONFIG_COUNT(f, n, lo, hi, t) [CONFIG_##f] = {AT(f), 0, NULL},
#define CONFIG_SIZE(f, n, d, lo, hi, t) [CONFIG_##f] = {AT(f), d, NULL},
#define CONFIG_STRING(f, n, d, t) [CONFIG_##f] = {AT(f), 0, d},
#define CONFIG_LIST(f, n, d, v, t) [CONFIG_##f] = {AT(f), 0, d},
#define CONFIG_ENUM(f, n, d, v, t) [CONFIG_##f] = {AT(f), 0, d},
#define CONFIG_ALIAS(name, of, factor, rank)
static const struct row_more more[CONFIG_PROPERTIES] = {
#include "broker/config_table.h"
};

#define CONFIG_SECTION(title) {CONFIG_ENTRY_SECTION, title, NULL, 0, 0},
#define CONFIG_BOOL(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_INT(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_LONG(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_DOUBLE(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_COUNT(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_SIZE(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_STRING(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_LIST(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_ENUM(f, n, ...) {CONFIG_ENTRY_PROPERTY, n, NULL, 1, 0},
#define CONFIG_ALIAS(name, of, factor, rank) {CONFIG_ENTRY_ALIAS, name, of, factor, rank},
const struct config_entry config_entries[] = {
#include "broker/config_table.h"
};
const size_t config_entry_count = ARRAY_LEN(config_entries);

const char *const config_ignored[] = {
    "process.roles",
    "controller.*",
    "zookeeper.*",
    "log.dir",
    "log.dirs",
    "metadata.*",
    "inter.broker.*",
    "listener.security.protocol.map",
    "control.plane.listener.name",
    "early.start.listeners",
    "initial.broker.registration.timeout.ms",
    "broker.heartbeat.interval.ms",
    "broker.session.timeout.ms",
    "broker.id.generation.enable",
    "reserved.broker.max.id",
    "num.network.threads",
    "num.io.threads",
    "num.replica.*",
    "num.recovery.threads.per.data.dir",
    "background.threads",
    "queued.max.requests",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "socket.listen.backlog.size",
    "replica.*",
    "leader.imbalance.*",
    "auto.leader.rebalance.enable",
    "unclean.leader.election.enable",
    "request.timeout.ms",
    "controlled.shutdown.*",
    "log.flush.*",
    "log.cleaner.*",
    "log.index.*",
    "log.preallocate",
    "log.segment.delete.delay.ms",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "log.message.downconversion.enable",
    "log.local.retention.*",
    "log.dir.failure.timeout.ms",
    "remote.*",
    "offsets.*",
    "group.*",
    "share.*",
    "transaction.*",
    "transactional.*",
    "producer.id.quota.*",
    "quota.*",
    "replication.quota.*",
    "alter.*",
    "metric.*",
    "metrics.*",
    "kafka.metrics.*",
    "auto.include.jmx.reporter",
    "client.quota.*",
    "telemetry.*",
    "fetch.purgatory.*",
    "producer.purgatory.*",
    "delete.records.purgatory.*",
    "create.topic.policy.class.name",
    "security.inter.broker.protocol",
    "max.connections.per.ip.overrides",
    "max.connection.creation.rate",
    "failed.authentication.delay.ms",
    "connection.failed.authentication.delay.ms",
    "eligible.leader.replicas.*",
    NULL,
};

const char *const config_refused[] = {
    "ssl.*",
    "sasl.*",
    "listener.name.*",
    "security.*",
    "authorizer.class.name",
    "super.users",
    "allow.everyone.if.no.acl.found",
    "principal.builder.class",
    "delegation.token.*",
    "password.encoder.*",
    "connections.max.reauth.ms",
    NULL,
};

/* --- Small helpers. */

__attribute__((format(printf, 3, 4))) static enum err refuse(char *why, size_t why_size, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return ERR_INVALID;
}

static void *field_of(const struct config *c, enum config_property p) {
    return (char *)(uintptr_t)c + more[p].offset;
}

static bool matches_any(const char *name, const char *const *patterns) {
    for (size_t i = 0; patterns[i]; i++) {
        size_t size = strlen(patterns[i]);
        if (patterns[i][size - 1] == '*') {
            if (strncmp(name, patterns[i], size - 1) == 0) return true;
        } else if (strcmp(name, patterns[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* A copy of `value` without blanks around it; the caller frees it. */
static char *trimmed(struct mem *m, const char *value) {
    static const char blanks[] = " \t\r\n\f\v";
    value += strspn(value, blanks);
    size_t size = strlen(value);
    while (size > 0 && strchr(blanks, value[size - 1])) size--;
    return mem_strndup(m, value, size);
}

/* A decimal number with an optional sign. */
static bool parse_number(const char *text, int64_t *out) {
    bool negative = *text == '-';
    const char *s = text + (*text == '-' || *text == '+');
    int64_t v = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10, &v)) return false;
        int digit = *s - '0';
        if (negative ? __builtin_sub_overflow(v, digit, &v) : __builtin_add_overflow(v, digit, &v)) return false;
    }
    *out = v;
    return true;
}

/* The index of `text` in "a|b|c", or -1. */
static int value_index(const char *values, const char *text) {
    size_t size = strlen(text);
    for (int i = 0; *values; i++) {
        size_t n = strcspn(values, "|");
        if (n == size && memcmp(values, text, n) == 0) return i;
        values += n + (values[n] == '|');
    }
    return -1;
}

const char *config_choice(const char *values, char *out, size_t out_size) {
    size_t o = 0;
    out[0] = '\0';
    while (*values && o < out_size) {
        size_t n = strcspn(values, "|");
        bool last = values[n] == '\0';
        int k = snprintf(out + o, out_size - o, "%s%.*s", o == 0 ? "" : (last ? " or " : ", "), (int)n, values);
        o += (size_t)k;
        values += n + !last;
    }
    return out;
}

/* What a value that is none of `values` was probably meant to be: "; did you mean 'x'?" or "". */
static const char *value_hint(const char *values, const char *text, char *out, size_t out_size) {
    size_t best_distance = SIZE_MAX;
    char best[64] = "";
    out[0] = '\0';
    while (*values) {
        size_t n = strcspn(values, "|");
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", (int)n, values);
        size_t d = edit_distance(text, name);
        if (d < best_distance) {
            best_distance = d;
            memcpy(best, name, sizeof(best));
        }
        values += n + (values[n] == '|');
    }
    if (best_distance <= 1 + strlen(text) / 3) (void)snprintf(out, out_size, "; did you mean '%s'?", best);
    return out;
}

/* --- Setting. */

static enum err refuse_number(const struct config_row *r, const char *name, int64_t factor, const char *value,
                              char *why, size_t why_size) {
    if (r->type == CONFIG_TYPE_SIZE) {
        char low[32], high[32];
        return refuse(why, why_size, "%s: expected a size from %s to %s, such as 67108864 or 64MiB; found '%s'", name,
                      size_text(r->min, low, sizeof(low)), size_text(r->max, high, sizeof(high)), value);
    }
    /* An alias counts in larger units; -1 means the same in all of them. */
    int64_t low = r->min > 0 ? (r->min + factor - 1) / factor : r->min, high = r->max / factor;
    return refuse(why, why_size, "%s: expected %s from %lld to %lld; found '%s'", name,
                  r->type == CONFIG_TYPE_COUNT ? "auto or a whole number" : "a whole number", (long long)low,
                  (long long)high, value);
}

static enum err set_number(struct config *c, enum config_property p, const char *name, int64_t factor,
                           const char *value, char *why, size_t why_size) {
    const struct config_row *r = &rows[p];
    int64_t v = 0;
    bool good;
    if (r->type == CONFIG_TYPE_COUNT && strcmp(value, "auto") == 0) {
        *(int32_t *)field_of(c, p) = 0;
        return OK;
    }
    if (r->type == CONFIG_TYPE_SIZE) {
        good = size_parse(value, &v);
    } else {
        good = parse_number(value, &v);
        if (good && v >= 0) good = !__builtin_mul_overflow(v, factor, &v);
    }
    if (!good || v < r->min || v > r->max) return refuse_number(r, name, factor, value, why, why_size);
    if (r->type == CONFIG_TYPE_INT || r->type == CONFIG_TYPE_COUNT) {
        *(int32_t *)field_of(c, p) = (int32_t)v;
    } else {
        *(int64_t *)field_of(c, p) = v;
    }
    return OK;
}

/* Its maximum is written as INT64_MAX where there is none. */
static enum err set_double(struct config *c, enum config_property p, const char *name, const char *value, char *why,
                           size_t why_size) {
    const struct config_row *r = &rows[p];
    char *end;
    double d = strtod(value, &end);
    bool good = end != value && *end == '\0' && d >= (double)r->min && d <= DBL_MAX;
    if (good && r->max < INT64_MAX) good = d <= (double)r->max;
    if (!good && r->max < INT64_MAX)
        return refuse(why, why_size, "%s: expected a number from %lld to %lld; found '%s'", name, (long long)r->min,
                      (long long)r->max, value);
    if (!good)
        return refuse(why, why_size, "%s: expected a number of at least %lld; found '%s'", name, (long long)r->min,
                      value);
    *(double *)field_of(c, p) = d;
    return OK;
}

static enum err set_text(struct config *c, enum config_property p, const char *name, const char *value, char *why,
                         size_t why_size) {
    const struct config_row *r = &rows[p];
    char choice[256], hint[128];
    if (r->type == CONFIG_TYPE_ENUM) {
        int i = value_index(r->values, value);
        if (i < 0) {
            return refuse(why, why_size, "%s: expected %s; found '%s'%s", name,
                          config_choice(r->values, choice, sizeof(choice)), value,
                          value_hint(r->values, value, hint, sizeof(hint)));
        }
        *(int32_t *)field_of(c, p) = i;
        return OK;
    }
    if (r->type == CONFIG_TYPE_LIST && r->values[0]) {
        char element[64];
        for (const char *cursor = value; config_list_next(&cursor, element, sizeof(element));) {
            if (value_index(r->values, element) >= 0) continue;
            return refuse(why, why_size, "%s: expected a list of %s; found '%s'%s", name,
                          config_choice(r->values, choice, sizeof(choice)), element,
                          value_hint(r->values, element, hint, sizeof(hint)));
        }
    }
    char **field = field_of(c, p);
    mem_free(c->mem, *field);
    *field = mem_strdup(c->mem, value);
    return OK;
}

static enum err set_value(struct config *c, enum config_property p, const char *name, int64_t factor, const char *value,
                          char *why, size_t why_size) {
    switch (rows[p].type) {
    case CONFIG_TYPE_BOOL: {
        bool yes = strcmp(value, "true") == 0;
        if (!yes && strcmp(value, "false") != 0) {
            return refuse(why, why_size, "%s: expected true or false; found '%s'", name, value);
        }
        *(bool *)field_of(c, p) = yes;
        return OK;
    }
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_LONG:
    case CONFIG_TYPE_COUNT:
    case CONFIG_TYPE_SIZE:
        return set_number(c, p, name, factor, value, why, why_size);
    case CONFIG_TYPE_DOUBLE:
        return set_double(c, p, name, value, why, why_size);
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_ENUM:
        return set_text(c, p, name, value, why, why_size);
    }
    UNREACHABLE();
}

/* A name that is not in the table: accepted without effect, refused with a reason, or mistyped. */
static enum err set_unknown(struct config *c, const char *name, char *why, size_t why_size) {
    if (matches_any(name, config_ignored)) {
        if (!mapstr_put(&c->warned, name, strlen(name), c) && c->warn) {
            char message[CONFIG_WHY_SIZE];
            (void)snprintf(message, sizeof(message), "%s: has no effect here", name);
            c->warn(c->warn_ctx, message);
        }
        return OK;
    }
    if (matches_any(name, config_refused)) {
        return refuse(why, why_size,
                      "%s: TLS, SASL and authorization are not supported yet; take it out to go on without them", name);
    }
    struct nearest n;
    nearest_init(&n, name);
    for (size_t i = 0; i < config_entry_count; i++) {
        if (config_entries[i].kind != CONFIG_ENTRY_SECTION) nearest_try(&n, config_entries[i].name);
    }
    if (nearest_plausible(&n)) {
        return refuse(why, why_size, "unknown property '%s'; did you mean '%s'?", name, n.best);
    }
    return refuse(why, why_size, "unknown property '%s'; the nearest one is '%s' ('oxbow config' prints all)", name,
                  n.best);
}

enum err config_set(struct config *c, const char *name, const char *value, char *why, size_t why_size) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    ASSERT(why_size > 0);
    const struct config_entry *e = NULL;
    for (size_t i = 0; i < config_entry_count && !e; i++) {
        if (config_entries[i].kind != CONFIG_ENTRY_SECTION && strcmp(config_entries[i].name, name) == 0)
            e = &config_entries[i];
    }
    if (!e) return set_unknown(c, name, why, why_size);
    enum config_property p = config_find(e->kind == CONFIG_ENTRY_ALIAS ? e->of : e->name);
    ASSERT(p < CONFIG_PROPERTIES);
    char *text = trimmed(c->mem, value);
    enum err result;
    if (c->rank[p] != 0 && c->rank[p] < 1 + e->rank) {
        /* A stronger name was there before: this value is only checked. Aliases are numbers, see config_table.h. */
        ASSERT(rows[p].type == CONFIG_TYPE_LONG || rows[p].type == CONFIG_TYPE_INT);
        size_t size = rows[p].type == CONFIG_TYPE_INT ? sizeof(int32_t) : sizeof(int64_t);
        char keep[sizeof(int64_t)];
        memcpy(keep, field_of(c, p), size);
        result = set_value(c, p, name, e->factor, text, why, why_size);
        memcpy(field_of(c, p), keep, size);
    } else {
        result = set_value(c, p, name, e->factor, text, why, why_size);
        if (result == OK) c->rank[p] = (uint8_t)(1 + e->rank);
    }
    mem_free(c->mem, text);
    return result;
}

enum err config_set_pair(struct config *c, const char *pair, char *why, size_t why_size) {
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair) return refuse(why, why_size, "expected key=value, found '%s'", pair);
    char *before = mem_strndup(c->mem, pair, (size_t)(equals - pair));
    char *name = trimmed(c->mem, before);
    enum err e = config_set(c, name, equals + 1, why, why_size);
    mem_free(c->mem, name);
    mem_free(c->mem, before);
    return e;
}

enum err config_load(struct config *c, const char *text, size_t size, const char *source, char *why, size_t why_size) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    struct properties p;
    properties_init(&p, c->mem, text, size);
    enum err e;
    for (;;) {
        const char *key, *value, *wrong;
        char message[CONFIG_WHY_SIZE];
        e = properties_next(&p, &key, &value, &wrong);
        if (e == ERR_NOT_FOUND) {
            e = OK;
            break;
        }
        if (e) {
            (void)refuse(why, why_size, "%s:%u: %s", source, p.line, wrong);
            break;
        }
        e = config_set(c, key, value, message, sizeof(message));
        if (e) {
            (void)refuse(why, why_size, "%s:%u: %s", source, p.line, message);
            break;
        }
    }
    properties_deinit(&p);
    return e;
}

void config_init_defaults(struct config *c, struct mem *m) {
    memset(c, 0, sizeof(*c));
    INIT_OBJ(c, CONFIG_MAGIC);
    c->mem = m;
    mapstr_init(&c->warned, m);
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        enum config_property p = (enum config_property)i;
        switch (rows[p].type) {
        case CONFIG_TYPE_BOOL:
            *(bool *)field_of(c, p) = more[p].number != 0;
            break;
        case CONFIG_TYPE_INT:
        case CONFIG_TYPE_COUNT:
            *(int32_t *)field_of(c, p) = (int32_t)more[p].number;
            break;
        case CONFIG_TYPE_LONG:
        case CONFIG_TYPE_SIZE:
            *(int64_t *)field_of(c, p) = more[p].number;
            break;
        case CONFIG_TYPE_DOUBLE:
            *(double *)field_of(c, p) = strtod(more[p].text, NULL);
            break;
        case CONFIG_TYPE_STRING:
        case CONFIG_TYPE_LIST:
            *(char **)field_of(c, p) = mem_strdup(m, more[p].text);
            break;
        case CONFIG_TYPE_ENUM: {
            int index = value_index(rows[p].values, more[p].text);
            ASSERT(index >= 0);
            *(int32_t *)field_of(c, p) = index;
            break;
        }
        }
    }
}

void config_deinit(struct config *c) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        if (rows[i].type != CONFIG_TYPE_STRING && rows[i].type != CONFIG_TYPE_LIST) continue;
        mem_free(c->mem, *(char **)field_of(c, (enum config_property)i));
    }
    mapstr_deinit(&c->warned);
    memset(c, 0, sizeof(*c));
}

/* --- What needs a look at several properties, or inside one. */

static enum err check_listeners(const char *name, const char *list, bool advertised, char *why, size_t why_size) {
    char element[512], message[CONFIG_WHY_SIZE];
    const char *cursor = list;
    while (config_list_next(&cursor, element, sizeof(element))) {
        struct listener_url l, other;
        if (listener_url_parse(element, &l, message, sizeof(message)) != OK) {
            return refuse(why, why_size, "%s: %s", name, message);
        }
        if (advertised && l.host[0] == '\0') {
            return refuse(why, why_size, "%s: expected an address that clients can reach, found '%s'", name, element);
        }
        for (const char *rest = cursor; config_list_next(&rest, element, sizeof(element));) {
            if (listener_url_parse(element, &other, message, sizeof(message)) == OK &&
                strcmp(l.name, other.name) == 0) {
                return refuse(why, why_size, "%s: expected each listener name once, found '%s' twice", name, l.name);
            }
        }
    }
    return OK;
}

/* Every advertised listener must be one of the listeners. */
static enum err check_advertised(const struct config *c, char *why, size_t why_size) {
    char a[512], b[512], message[CONFIG_WHY_SIZE];
    for (const char *at = c->advertised_listeners; config_list_next(&at, a, sizeof(a));) {
        struct listener_url advertised, listener;
        if (listener_url_parse(a, &advertised, message, sizeof(message)) != OK) continue; /* reported before */
        bool found = false;
        for (const char *in = c->listeners; !found && config_list_next(&in, b, sizeof(b));) {
            found = listener_url_parse(b, &listener, message, sizeof(message)) == OK &&
                    strcmp(advertised.name, listener.name) == 0;
        }
        if (!found) {
            return refuse(why, why_size,
                          "advertised.listeners: expected the name of one of the listeners (%s), found '%s'",
                          c->listeners, advertised.name);
        }
    }
    return OK;
}

static enum err check_addresses(const struct config *c, char *why, size_t why_size) {
    char message[CONFIG_WHY_SIZE], element[512];
    struct storage_url storage;
    struct wal_setup wal;
    enum err e = check_listeners("listeners", c->listeners, false, why, why_size);
    if (!e) e = check_listeners("advertised.listeners", c->advertised_listeners, true, why, why_size);
    if (!e) e = check_advertised(c, why, why_size);
    if (e) return e;
    const char *cursor = c->listeners;
    if (!config_list_next(&cursor, element, sizeof(element))) {
        return refuse(why, why_size, "listeners: expected at least one, such as PLAINTEXT://127.0.0.1:9092");
    }
    if (storage_url_parse(c->storage_url, &storage, message, sizeof(message)) != OK) {
        return refuse(why, why_size, "storage.url: %s", message);
    }
    if (wal_setup_parse(c->wal_url, &wal, message, sizeof(message)) != OK) {
        return refuse(why, why_size, "wal.url: %s", message);
    }
    for (unsigned i = 0; i < wal.count; i++) {
        if (wal.urls[i].kind == WAL_KIND_OBJECTS && strcmp(wal.urls[i].path, c->storage_url) == 0)
            return refuse(
                why, why_size,
                "wal.url: expected another store for the object log than storage.url: nothing would be gained");
    }
    if (c->http_listen[0]) {
        char host[256];
        uint16_t port;
        if (host_port_parse(c->http_listen, host, sizeof(host), &port, message, sizeof(message)) != OK) {
            return refuse(why, why_size, "http.listen: %s", message);
        }
    }
    return OK;
}

enum err config_check(const struct config *c, char *why, size_t why_size) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    char a[32], b[32], element[64];
    enum err e = check_addresses(c, why, why_size);
    if (e) return e;
    const char *cursor = c->log_cleanup_policy;
    if (!config_list_next(&cursor, element, sizeof(element))) {
        return refuse(why, why_size, "log.cleanup.policy: expected delete, compact or both");
    }
    if (c->queued_max_request_bytes < c->socket_request_max_bytes) {
        return refuse(
            why, why_size, "queued.max.request.bytes: expected at least socket.request.max.bytes (%s), found %s",
            size_text(c->socket_request_max_bytes, a, sizeof(a)), size_text(c->queued_max_request_bytes, b, sizeof(b)));
    }
    if (c->message_max_bytes > c->socket_request_max_bytes) {
        return refuse(why, why_size, "message.max.bytes: expected at most socket.request.max.bytes (%d), found %d",
                      c->socket_request_max_bytes, c->message_max_bytes);
    }
    if (c->upload_bytes > c->cache_log_bytes / 2) {
        return refuse(why, why_size, "upload.bytes: expected at most half of cache.log.bytes (%s), found %s",
                      size_text(c->cache_log_bytes, a, sizeof(a)), size_text(c->upload_bytes, b, sizeof(b)));
    }
    if (c->compaction_bytes < c->upload_bytes / 2) {
        return refuse(why, why_size,
                      "compaction.bytes: expected at least half of upload.bytes (%s), of whose objects it must hold "
                      "what is left, found %s",
                      size_text(c->upload_bytes, a, sizeof(a)), size_text(c->compaction_bytes, b, sizeof(b)));
    }
    return OK;
}

/* --- Looking at it. */

const struct config_row *config_row(enum config_property p) {
    ASSERT((unsigned)p < CONFIG_PROPERTIES);
    return &rows[p];
}

enum config_property config_find(const char *name) {
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        if (strcmp(rows[i].name, name) == 0) return (enum config_property)i;
    }
    return CONFIG_PROPERTIES;
}

const char *config_value(const struct config *c, enum config_property p, char *out, size_t out_size) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    const void *field = field_of(c, p);
    switch (config_row(p)->type) {
    case CONFIG_TYPE_BOOL:
        (void)snprintf(out, out_size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case CONFIG_TYPE_COUNT:
        if (*(const int32_t *)field == 0) {
            (void)snprintf(out, out_size, "auto");
            break;
        }
        (void)snprintf(out, out_size, "%d", *(const int32_t *)field);
        break;
    case CONFIG_TYPE_INT:
        (void)snprintf(out, out_size, "%d", *(const int32_t *)field);
        break;
    case CONFIG_TYPE_LONG:
        (void)snprintf(out, out_size, "%lld", (long long)*(const int64_t *)field);
        break;
    case CONFIG_TYPE_DOUBLE:
        (void)topic_config_double_text(*(const double *)field, out, out_size);
        break;
    case CONFIG_TYPE_SIZE:
        (void)size_text(*(const int64_t *)field, out, out_size);
        break;
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_LIST:
        (void)snprintf(out, out_size, "%s", *(char *const *)field);
        break;
    case CONFIG_TYPE_ENUM: {
        const char *values = rows[p].values;
        for (int i = *(const int32_t *)field; i > 0; i--) values += strcspn(values, "|") + 1;
        (void)snprintf(out, out_size, "%.*s", (int)strcspn(values, "|"), values);
        break;
    }
    }
    return out;
}

bool config_list_next(const char **cursor, char *out, size_t out_size) {
    ASSERT(out_size > 0);
    const char *s = *cursor + strspn(*cursor, ", \t");
    size_t size = strcspn(s, ",");
    *cursor = s + size;
    if (size == 0) return false;
    while (s[size - 1] == ' ' || s[size - 1] == '\t') size--; /* the first byte is neither */
    if (size >= out_size) size = out_size - 1;
    memcpy(out, s, size);
    out[size] = '\0';
    return true;
}

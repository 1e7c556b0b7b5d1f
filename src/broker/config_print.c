/* The configuration as text: every property with its value, as `oxbow config` shows it and config_load reads it back, and
 * docs/configuration.md. */
#include "broker/config_priv.h"

#include <stdio.h>

#include "base/assert.h"
#include "broker/memory.h"
#include "broker/url.h"

static const char *type_text(enum config_type t) {
    static const char *const names[] = {"boolean", "int", "long", "double", "count", "size", "string", "list", "enum"};
    ASSERT((unsigned)t < ARRAY_LEN(names));
    return names[t];
}

/* "0 to 2147483647", "auto, uring or epoll" */
static const char *limits_text(const struct config_row *r, char *out, size_t out_size) {
    char a[32], b[32];
    switch (r->type) {
    case CONFIG_TYPE_BOOL:
        (void)snprintf(out, out_size, "true or false");
        break;
    case CONFIG_TYPE_STRING:
        out[0] = '\0';
        break;
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_ENUM:
        (void)config_choice(r->values, out, out_size);
        break;
    case CONFIG_TYPE_SIZE:
        (void)snprintf(out, out_size, "%s to %s", size_text(r->min, a, sizeof(a)), size_text(r->max, b, sizeof(b)));
        break;
    case CONFIG_TYPE_COUNT:
        (void)snprintf(out, out_size, "auto, or %lld to %lld", (long long)r->min, (long long)r->max);
        break;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_LONG:
    case CONFIG_TYPE_DOUBLE:
        if (r->max == (r->type == CONFIG_TYPE_INT ? INT32_MAX : INT64_MAX)) {
            (void)snprintf(out, out_size, "%lld or more", (long long)r->min);
        } else {
            (void)snprintf(out, out_size, "%lld to %lld", (long long)r->min, (long long)r->max);
        }
        break;
    }
    return out;
}

/* As properties_next() reads it back. */
static void print_properties_value(const char *value, struct buf *out) {
    for (const char *s = value; *s; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '\\' || (ch == ' ' && s == value)) {
            buf_printf(out, "\\%c", ch);
        } else if (ch < ' ') {
            buf_printf(out, "\\u%04x", ch);
        } else {
            buf_u8(out, ch);
        }
    }
}

void config_print(const struct config *c, struct buf *out) {
    CHECK_OBJ(c, CONFIG_MAGIC);
    struct config defaults;
    config_init_defaults(&defaults, c->mem);
    for (size_t i = 0; i < config_entry_count; i++) {
        const struct config_entry *e = &config_entries[i];
        if (e->kind == CONFIG_ENTRY_SECTION) buf_printf(out, "%s##### %s\n", i == 0 ? "" : "\n", e->name);
        if (e->kind == CONFIG_ENTRY_ALIAS) {
            buf_printf(out, "# Also: %s", e->name);
            if (e->factor != 1) buf_printf(out, " (in units of %lld)", (long long)e->factor);
            buf_printf(out, "\n");
        }
        if (e->kind != CONFIG_ENTRY_PROPERTY) continue;
        enum config_property p = config_find(e->name);
        const struct config_row *row = config_row(p);
        char value[URL_PATH_SIZE + 64], standard[URL_PATH_SIZE + 64], limits[320];
        config_value(c, p, value, sizeof(value));
        config_value(&defaults, p, standard, sizeof(standard));
        limits_text(row, limits, sizeof(limits));
        buf_printf(out, "\n# %s\n# %s%s%s; default: %s\n%s=", row->text, type_text(row->type), limits[0] ? ", " : "",
                   limits, standard[0] ? standard : "(empty)", row->name);
        print_properties_value(value, out);
        buf_printf(out, "\n");
    }
    config_deinit(&defaults);
}

static void print_names(const char *const *names, struct buf *out) {
    for (size_t i = 0; names[i]; i++) buf_printf(out, "%s`%s`", i ? ", " : "", names[i]);
    buf_printf(out, ".\n");
}

void config_print_markdown(struct buf *out, struct mem *m) {
    struct config defaults;
    config_init_defaults(&defaults, m);
    buf_printf(
        out,
        "# Configuration\n\n"
        "This page is made from `src/broker/config_table.h` by `oxbow config --markdown`; do not edit it.\n\n"
        "A configuration file has the format of Kafka's `server.properties`: `oxbow serve -c FILE`. Single properties are\n"
        "set, or set again, with `--set key=value`. Without either, a single broker works in the current folder. An unknown\n"
        "or wrong property is an error. `oxbow config [-c FILE] [--set key=value]...` prints every property with its value.\n\n"
        "A *size* is in bytes and may end in `KiB`, `MiB`, `GiB` or `TiB`; a *count* is a number or `auto`.\n");
    for (size_t i = 0; i < config_entry_count; i++) {
        const struct config_entry *e = &config_entries[i];
        if (e->kind == CONFIG_ENTRY_SECTION) {
            buf_printf(out, "\n## %s\n\n| Property | Type | Default | Meaning |\n| --- | --- | --- | --- |\n", e->name);
        }
        if (e->kind != CONFIG_ENTRY_PROPERTY) continue;
        enum config_property p = config_find(e->name);
        const struct config_row *row = config_row(p);
        char value[URL_PATH_SIZE + 64], limits[320];
        config_value(&defaults, p, value, sizeof(value));
        limits_text(row, limits, sizeof(limits));
        const char *quote = value[0] ? "`" : "";
        buf_printf(out, "| `%s` | %s%s%s | %s%s%s | %s", row->name, type_text(row->type), limits[0] ? ", " : "", limits,
                   quote, value[0] ? value : "empty", quote, row->text);
        for (size_t j = i + 1; j < config_entry_count && config_entries[j].kind == CONFIG_ENTRY_ALIAS; j++) {
            const char *unit = config_entries[j].factor == 3600000
                                   ? " in hours"
                                   : (config_entries[j].factor == 60000 ? " in minutes" : "");
            buf_printf(out, " Also `%s`%s.", config_entries[j].name, unit);
        }
        buf_printf(out, " |\n");
    }
    memory_print_markdown(&defaults, out);
    buf_printf(
        out,
        "\n## Kafka's other properties\n\n"
        "Accepted, so that a `server.properties` from elsewhere works, with a warning that they have no effect here:\n\n");
    print_names(config_ignored, out);
    buf_printf(out, "\nRefused, because they promise a protection that is not there:\n\n");
    print_names(config_refused, out);
    config_deinit(&defaults);
}

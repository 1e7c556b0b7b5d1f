#include "cli/record_format.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "cli/output.h"

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

const char *record_format_check(const char *format) {
    for (const char *s = format; *s; s++) {
        if (*s == '%') {
            s++;
            if (*s == '\0' || !strchr("tpoTkKvsSh%", *s)) return "a format with %t %p %o %T %k %K %v %s %S %h %%";
        } else if (*s == '\\') {
            s++;
            if (*s == '\0' || !strchr("nrt0\\x", *s)) return "a format with \\n \\r \\t \\0 \\\\ \\xNN";
            if (*s == 'x') {
                if (hex(s[1]) < 0 || hex(s[2]) < 0) return "two hexadecimal digits behind \\x in the format";
                s += 2;
            }
        }
    }
    return NULL;
}

/* Returns the last character of the escape. */
static const char *escape_put(struct buf *out, const char *s) {
    switch (*s) {
    case 'n':
        buf_u8(out, '\n');
        break;
    case 'r':
        buf_u8(out, '\r');
        break;
    case 't':
        buf_u8(out, '\t');
        break;
    case '0':
        buf_u8(out, 0);
        break;
    case 'x':
        buf_u8(out, (uint8_t)(hex(s[1]) * 16 + hex(s[2])));
        return s + 2;
    default:
        buf_u8(out, (uint8_t)*s);
        break;
    }
    return s;
}

static void bytes_put(struct buf *out, const void *data, int32_t size) {
    if (size > 0) buf_put(out, data, (size_t)size);
}

static void headers_put(struct buf *out, const struct batch_record *r) {
    struct batch_record_header h;
    size_t position = 0;
    for (bool more = false; batch_header_next(r, &position, &h); more = true) {
        if (more) buf_u8(out, ',');
        bytes_put(out, h.key, h.key_size);
        buf_u8(out, '=');
        bytes_put(out, h.value, h.value_size);
    }
}

static void field_put(struct buf *out, char field, const char *topic, int32_t partition, const struct batch_record *r) {
    switch (field) {
    case 't':
        buf_put(out, topic, strlen(topic));
        break;
    case 'p':
        buf_printf(out, "%" PRId32, partition);
        break;
    case 'o':
        buf_printf(out, "%" PRId64, r->offset);
        break;
    case 'T':
        buf_printf(out, "%" PRId64, r->timestamp);
        break;
    case 'k':
        bytes_put(out, r->key, r->key_size);
        break;
    case 'K':
        buf_printf(out, "%" PRId32, r->key_size);
        break;
    case 'v':
    case 's':
        bytes_put(out, r->value, r->value_size);
        break;
    case 'S':
        buf_printf(out, "%" PRId32, r->value_size);
        break;
    case 'h':
        headers_put(out, r);
        break;
    case '%':
        buf_u8(out, '%');
        break;
    default:
        UNREACHABLE();
    }
}

void record_format(struct buf *out, const char *format, const char *topic, int32_t partition,
                   const struct batch_record *r) {
    for (const char *s = format; *s; s++) {
        if (*s == '%') {
            field_put(out, *++s, topic, partition, r);
        } else if (*s == '\\') {
            s = escape_put(out, s + 1);
        } else {
            buf_u8(out, (uint8_t)*s);
        }
    }
}

void record_json(struct buf *out, const char *topic, int32_t partition, const struct batch_record *r) {
    struct json j;
    struct batch_record_header h;
    size_t position = 0;
    json_init(&j, out);
    json_open(&j, NULL, '{');
    json_text(&j, "topic", topic);
    json_number(&j, "partition", partition);
    json_number(&j, "offset", r->offset);
    json_number(&j, "timestamp", r->timestamp);
    json_bytes(&j, "key", r->key, r->key_size);
    json_bytes(&j, "value", r->value, r->value_size);
    json_open(&j, "headers", '[');
    while (batch_header_next(r, &position, &h)) {
        json_open(&j, NULL, '{');
        json_bytes(&j, "key", (const uint8_t *)h.key, h.key_size);
        json_bytes(&j, "value", h.value, h.value_size);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    buf_u8(out, '\n');
}

#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/commands.h"

/* --- Tables. */

void table_init(struct table *t, struct mem *m, const char *const *headers, size_t columns, unsigned right) {
    ASSERT(columns >= 1 && columns <= TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = columns, .right = right, .headers = headers};
    buf_init(&t->cells, m);
    for (size_t i = 0; i < columns; i++) t->widths[i] = strlen(headers[i]);
}

void table_deinit(struct table *t) {
    buf_deinit(&t->cells);
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t text_width(const char *s) {
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void cell_done(struct table *t, size_t start) {
    buf_u8(&t->cells, 0);
    size_t width = text_width((const char *)t->cells.data + start), column = t->count++ % t->columns;
    if (width > t->widths[column]) t->widths[column] = width;
}

void table_string(struct table *t, struct kafka_string s) {
    size_t start = t->cells.size;
    bool utf8 = s.size > 0 && utf8_valid((const uint8_t *)s.data, (size_t)s.size);
    for (int32_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8)) {
            buf_printf(&t->cells, "\\x%02x", c);
        } else {
            buf_u8(&t->cells, c);
        }
    }
    if (s.size <= 0) buf_u8(&t->cells, '-');
    cell_done(t, start);
}

void table_text(struct table *t, const char *s) {
    table_string(t, kafka_string_of(s));
}

void table_number(struct table *t, int64_t v) {
    size_t start = t->cells.size;
    buf_printf(&t->cells, "%" PRId64, v);
    cell_done(t, start);
}

static void cell_print(const struct table *t, size_t column, const char *s, struct buf *out) {
    size_t pad = t->widths[column] - text_width(s);
    if (column > 0) buf_put(out, "  ", 2);
    if ((t->right >> column) & 1) {
        buf_printf(out, "%*s%s", (int)pad, "", s);
    } else if (column + 1 == t->columns) {
        buf_put(out, s, strlen(s));
    } else {
        buf_printf(out, "%s%*s", s, (int)pad, "");
    }
    if (column + 1 == t->columns) buf_u8(out, '\n');
}

void table_print(const struct table *t, struct buf *out) {
    ASSERT(t->count % t->columns == 0);
    for (size_t i = 0; i < t->columns; i++) cell_print(t, i, t->headers[i], out);
    const char *s = (const char *)t->cells.data;
    for (size_t i = 0; i < t->count; i++, s += strlen(s) + 1) cell_print(t, i % t->columns, s, out);
}

/* --- JSON. */

void json_init(struct json *j, struct buf *out) {
    *j = (struct json){.out = out};
}

/* Length of the well-formed UTF-8 character at data, 0 when there is none: no surrogates, nothing overlong. */
static size_t utf8_length(const uint8_t *data, size_t size) {
    uint8_t c = data[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (n == 0 || n > size) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((data[i] & 0xc0) != 0x80) return 0;
    }
    if ((c == 0xe0 && data[1] < 0xa0) || (c == 0xed && data[1] > 0x9f)) return 0;
    if ((c == 0xf0 && data[1] < 0x90) || (c == 0xf4 && data[1] > 0x8f)) return 0;
    return n;
}

bool utf8_valid(const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t n = utf8_length(data + at, size - at);
        if (n == 0) return false;
        at += n;
    }
    return true;
}

static void json_quote(struct buf *out, const uint8_t *data, size_t size) {
    buf_u8(out, '"');
    for (size_t at = 0; at < size;) {
        uint8_t c = data[at];
        size_t n = utf8_length(data + at, size - at);
        if (n == 0) {
            buf_put(out, "\\ufffd", 6);
            n = 1;
        } else if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_put(out, data + at, n);
        }
        at += n;
    }
    buf_u8(out, '"');
}

void json_key(struct json *j, struct kafka_string key) {
    if (j->more) buf_u8(j->out, ',');
    json_quote(j->out, (const uint8_t *)key.data, key.size > 0 ? (size_t)key.size : 0);
    buf_u8(j->out, ':');
    j->more = false;
}

/* What comes before every value. */
static void json_begin(struct json *j, const char *key) {
    if (key) {
        json_key(j, kafka_string_of(key));
    } else if (j->more) {
        buf_u8(j->out, ',');
    }
    j->more = true;
}

void json_open(struct json *j, const char *key, char bracket) {
    json_begin(j, key);
    buf_u8(j->out, (uint8_t)bracket);
    j->more = false;
}

void json_close(struct json *j, char bracket) {
    buf_u8(j->out, (uint8_t)bracket);
    j->more = true;
}

void json_string(struct json *j, const char *key, struct kafka_string s) {
    json_begin(j, key);
    if (s.size < 0) {
        buf_put(j->out, "null", 4);
    } else {
        json_quote(j->out, (const uint8_t *)s.data, (size_t)s.size);
    }
}

void json_text(struct json *j, const char *key, const char *s) {
    json_string(j, key, kafka_string_of(s));
}

void json_number(struct json *j, const char *key, int64_t v) {
    json_begin(j, key);
    buf_printf(j->out, "%" PRId64, v);
}

void json_real(struct json *j, const char *key, double v) {
    json_begin(j, key);
    if (isfinite(v)) {
        buf_printf(j->out, "%.9g", v);
    } else {
        buf_put(j->out, "null", 4);
    }
}

void json_bool(struct json *j, const char *key, bool v) {
    json_begin(j, key);
    buf_printf(j->out, "%s", v ? "true" : "false");
}

static void base64_put(struct buf *out, const uint8_t *data, size_t size, const char *last_two, bool pad) {
    static const char most[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    for (size_t at = 0; at < size; at += 3) {
        size_t n = size - at < 3 ? size - at : 3;
        uint32_t v = (uint32_t)data[at] << 16 | (n > 1 ? (uint32_t)data[at + 1] << 8 : 0) | (n > 2 ? data[at + 2] : 0);
        for (size_t i = 0; i < 4; i++) {
            uint32_t six = (v >> (18 - 6 * i)) & 63;
            if (i > n) {
                if (pad) buf_u8(out, '=');
            } else {
                buf_u8(out, (uint8_t)(six < 62 ? most[six] : last_two[six - 62]));
            }
        }
    }
}

void json_bytes(struct json *j, const char *key, const uint8_t *data, int32_t size) {
    if (size < 0 || utf8_valid(data, (size_t)size)) {
        json_string(j, key, (struct kafka_string){(const char *)data, size});
        return;
    }
    json_begin(j, key);
    buf_printf(j->out, "{\"base64\":\"");
    base64_put(j->out, data, (size_t)size, "+/", true);
    buf_printf(j->out, "\"}");
}

void uuid_format(const struct kafka_uuid *u, char out[UUID_TEXT_SIZE]) {
    struct mem m;
    mem_init_heap(&m);
    struct buf b;
    buf_init(&b, &m);
    base64_put(&b, u->bytes, sizeof(u->bytes), "-_", false);
    ASSERT(b.size == UUID_TEXT_SIZE - 1);
    memcpy(out, b.data, b.size);
    out[b.size] = '\0';
    buf_deinit(&b);
}

/* --- Standard output. */

int output_write(struct buf *b, const char *command) {
    int status = EXIT_DONE;
    if (b->size > 0 && (fwrite(b->data, 1, b->size, stdout) != b->size || fflush(stdout) != 0)) {
        status = errno == EPIPE ? EXIT_NO_READER : EXIT_FAILED;
        if (status == EXIT_FAILED) {
            fprintf(stderr, "oxbow %s: cannot write to standard output: %s\n", command, strerror(errno));
        }
    }
    b->size = 0;
    return status;
}

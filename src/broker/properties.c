#include "broker/properties.h"

#include "base/assert.h"

void properties_init(struct properties *p, struct mem *m, const char *text, size_t size) {
    *p = (struct properties){.at = text, .end = text + size, .next_line = 1};
    buf_init(&p->key, m);
    buf_init(&p->value, m);
}

void properties_deinit(struct properties *p) {
    buf_deinit(&p->key);
    buf_deinit(&p->value);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\f';
}

static bool is_line_end(char c) {
    return c == '\n' || c == '\r';
}

/* Steps over one line end: \n, \r or \r\n. */
static void skip_line_end(struct properties *p) {
    ASSERT(p->at < p->end && is_line_end(*p->at));
    if (*p->at == '\r' && p->at + 1 < p->end && p->at[1] == '\n') p->at++;
    p->at++;
    p->next_line++;
}

/* A backslash and a line end, then the next line's leading blanks: nothing at all, as far as the pair is concerned. */
static bool skip_continuation(struct properties *p) {
    if (p->at + 1 >= p->end || *p->at != '\\' || !is_line_end(p->at[1])) return false;
    p->at++;
    skip_line_end(p);
    while (p->at < p->end && is_blank(*p->at)) p->at++;
    return true;
}

static void skip_blanks(struct properties *p) {
    while (p->at < p->end && (is_blank(*p->at) || skip_continuation(p))) {
        if (p->at < p->end && is_blank(*p->at)) p->at++;
    }
}

static void put_utf8(struct buf *b, uint32_t c) {
    if (c < 0x80) {
        buf_u8(b, (uint8_t)c);
    } else if (c < 0x800) {
        buf_u8(b, (uint8_t)(0xc0 | (c >> 6)));
        buf_u8(b, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_u8(b, (uint8_t)(0xe0 | (c >> 12)));
        buf_u8(b, (uint8_t)(0x80 | ((c >> 6) & 0x3f)));
        buf_u8(b, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        buf_u8(b, (uint8_t)(0xf0 | (c >> 18)));
        buf_u8(b, (uint8_t)(0x80 | ((c >> 12) & 0x3f)));
        buf_u8(b, (uint8_t)(0x80 | ((c >> 6) & 0x3f)));
        buf_u8(b, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

/* Four hexadecimal digits at the cursor, or false. */
static bool read_hex4(struct properties *p, uint32_t *out) {
    if (p->end - p->at < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *p->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (uint32_t)(c - 'a' + 10);
        } else if (c >= 'A' && c <= 'F') {
            digit = (uint32_t)(c - 'A' + 10);
        } else {
            return false;
        }
        *out = *out << 4 | digit;
    }
    return true;
}

/* The cursor is behind a backslash and 'u'. Java writes characters above U+FFFF as two escapes, a surrogate pair. */
static enum err read_unicode(struct properties *p, struct buf *out, const char **why) {
    uint32_t c, low;
    if (!read_hex4(p, &c) || c == 0) goto malformed;
    if (c >= 0xdc00 && c <= 0xdfff) goto malformed;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u') goto malformed;
        p->at += 2;
        if (!read_hex4(p, &low) || low < 0xdc00 || low > 0xdfff) goto malformed;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(out, c);
    return OK;
malformed:
    *why = "expected four hexadecimal digits of a character other than U+0000 after \\u";
    return ERR_INVALID;
}

/* Reads up to the end of the line or, for a key, to the separator; leaves the cursor there. */
static enum err read_part(struct properties *p, struct buf *out, bool is_key, const char **why) {
    out->size = 0;
    while (p->at < p->end && !is_line_end(*p->at)) {
        if (skip_continuation(p)) continue;
        char c = *p->at;
        if (is_key && (is_blank(c) || c == '=' || c == ':')) break;
        p->at++;
        if (c == '\0') {
            *why = "expected text, found a zero byte";
            return ERR_INVALID;
        }
        if (c != '\\') {
            buf_u8(out, (uint8_t)c);
            continue;
        }
        if (p->at == p->end) break; /* a lone backslash at the very end means nothing */
        c = *p->at++;
        switch (c) {
        case 't':
            buf_u8(out, '\t');
            break;
        case 'n':
            buf_u8(out, '\n');
            break;
        case 'r':
            buf_u8(out, '\r');
            break;
        case 'f':
            buf_u8(out, '\f');
            break;
        case 'u': {
            enum err e = read_unicode(p, out, why);
            if (e) return e;
            break;
        }
        case '\0':
            *why = "expected text, found a zero byte";
            return ERR_INVALID;
        default:
            buf_u8(out, (uint8_t)c);
        }
    }
    buf_u8(out, 0);
    return OK;
}

enum err properties_next(struct properties *p, const char **key, const char **value, const char **why) {
    for (;;) { /* to the first character of a pair */
        while (p->at < p->end && (is_blank(*p->at) || is_line_end(*p->at))) {
            if (is_line_end(*p->at)) {
                skip_line_end(p);
            } else {
                p->at++;
            }
        }
        if (p->at == p->end) return ERR_NOT_FOUND;
        if (*p->at != '#' && *p->at != '!') break;
        while (p->at < p->end && !is_line_end(*p->at)) p->at++;
    }
    p->line = p->next_line;
    enum err e = read_part(p, &p->key, true, why);
    if (e) return e;
    skip_blanks(p);
    if (p->at < p->end && (*p->at == '=' || *p->at == ':')) {
        p->at++;
        skip_blanks(p);
    }
    e = read_part(p, &p->value, false, why);
    if (e) return e;
    *key = (const char *)p->key.data;
    *value = (const char *)p->value.data;
    return OK;
}

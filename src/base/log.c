#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static const char *const level_names[] = {"debug", "info", "warn", "error", "none"};

/* Civil date from days since 1970-01-01 (the usual era arithmetic), without the C library's time zone state. */
static void civil_from_days(int64_t days, int *year, int *month, int *day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

void log_line(struct logger *l, enum log_level level, const char *msg, const char *format, ...) {
    if (!l || level < atomic_load_explicit(&l->level, memory_order_relaxed)) return;
    char line[2048];
    int64_t ms = l->wall_ms(l->ctx);
    int64_t s = ms / 1000;
    int64_t in_day = s % 86400;
    int year, month, day;
    civil_from_days(s / 86400, &year, &month, &day);
    int n = snprintf(line, sizeof(line), "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ level=%s msg=\"%s\"", year, month, day,
                     (int)(in_day / 3600), (int)(in_day / 60 % 60), (int)(in_day % 60), (int)(ms % 1000),
                     level_names[level], msg);
    ASSERT(n > 0 && (size_t)n < sizeof(line));
    size_t size = (size_t)n;
    if (format[0]) {
        line[size++] = ' ';
        va_list ap;
        va_start(ap, format);
        n = vsnprintf(line + size, sizeof(line) - size, format, ap);
        va_end(ap);
        if (n > 0) size += (size_t)n;
        if (size > sizeof(line) - 2) size = sizeof(line) - 2;
    }
    /* A value must not break the line in two. */
    for (size_t i = 0; i < size; i++) {
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    }
    line[size++] = '\n';
    l->sink(l->ctx, line, size);
}

const char *log_quote(char *out, size_t out_size, const char *s, size_t n) {
    ASSERT(out_size >= 8);
    bool plain = n > 0 && n < out_size;
    for (size_t i = 0; i < n && plain; i++) {
        unsigned char c = (unsigned char)s[i];
        plain = c > ' ' && c != '"' && c != '\\' && c != '=' && c != 0x7f;
    }
    if (plain) {
        memcpy(out, s, n);
        out[n] = '\0';
        return out;
    }
    size_t o = 0;
    out[o++] = '"';
    for (size_t i = 0; i < n && o + 6 < out_size; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            out[o++] = '\\';
            out[o++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            o += (size_t)snprintf(out + o, 5, "\\x%02x", c);
        } else {
            out[o++] = (char)c;
        }
    }
    out[o++] = '"';
    out[o] = '\0';
    return out;
}

int log_due(int64_t *state, int64_t now_ms, int64_t every_ms) {
    if (*state != 0 && now_ms >= *state && now_ms - *state < every_ms) return 0; /* a clock set back silences nobody */
    *state = now_ms ? now_ms : 1;
    return 1;
}

int log_level_parse(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) return (int)i;
    }
    return -1;
}

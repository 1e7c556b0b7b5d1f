/* The log: one logfmt line an event on stderr (or wherever `sink` goes), silent when idle.
 *   log_info(l, "wal opened", "path=%s size_bytes=%lu", path, size);
 *   -> ts=2026-01-02T03:04:05.678Z level=info msg="wal opened" path=/x size_bytes=123
 * Values that may hold spaces or quotes are passed through log_quote(). Thread-safe: a line is one write. Never log a
 * secret. */
#ifndef OXBOW_BASE_LOG_H
#define OXBOW_BASE_LOG_H

#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE };

struct logger {
    _Atomic(enum log_level) level; /* lines below it are dropped; may be changed at any time, by any thread */
    int64_t (*wall_ms)(void *ctx);
    void (*sink)(void *ctx, const char *line, size_t size); /* line ends in \n */
    void *ctx;
};

void log_line(struct logger *l, enum log_level level, const char *msg, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define log_debug(l, ...) log_line((l), LOG_DEBUG, __VA_ARGS__)
#define log_info(l, ...) log_line((l), LOG_INFO, __VA_ARGS__)
#define log_warn(l, ...) log_line((l), LOG_WARN, __VA_ARGS__)
#define log_error(l, ...) log_line((l), LOG_ERROR, __VA_ARGS__)

/* Quotes `s` into `out` when it needs it (blanks, quotes, '=', control bytes; what must be is escaped); returns out.
 * Cut to fit; out_size is at least 8. */
const char *log_quote(char *out, size_t out_size, const char *s, size_t n);
/* For messages of a level that would repeat: true at most once per `every_ms` (state starts as 0). */
int log_due(int64_t *state, int64_t now_ms, int64_t every_ms);
/* "debug", "info", ... -> level; -1 for anything else. */
int log_level_parse(const char *name);

#endif

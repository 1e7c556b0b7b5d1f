/* What the client subcommands print: tables for people, JSON for programs. Both are made in a `struct buf` and go to
 * standard output in one go, so that a failure in the middle of the work prints nothing half.
 *
 * Text that came from a broker is not trusted: in tables, control characters are shown as \xNN; in JSON, what is not
 * UTF-8 is shown as U+FFFD, and binary values as {"base64":"..."}. */
#ifndef OXBOW_CLI_OUTPUT_H
#define OXBOW_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "kafka/codec.h"

#define TABLE_COLUMNS_MAX 12u

struct table {
    size_t columns;
    unsigned right;                   /* bit i: column i is a number */
    const char *const *headers;       /* borrowed */
    struct buf cells;                 /* NUL-terminated, row by row */
    size_t count;                     /* of cells */
    size_t widths[TABLE_COLUMNS_MAX]; /* in characters */
};
void table_init(struct table *t, struct mem *m, const char *const *headers, size_t columns, unsigned right);
void table_deinit(struct table *t);
/* The next cell; after the last column the next row begins. */
void table_string(struct table *t, struct kafka_string s); /* null: "-" */
void table_text(struct table *t, const char *s);
void table_number(struct table *t, int64_t v);
/* Appends the header line and the rows, two spaces between columns, none at the ends of lines. */
void table_print(const struct table *t, struct buf *out);

/* A writer of one JSON document; commas are its business. key NULL: an element of an array, or the document itself. */
struct json {
    struct buf *out;
    bool more; /* a comma is due before the next value */
};
void json_init(struct json *j, struct buf *out);
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_key(struct json *j, struct kafka_string key);        /* a key from outside; then a value with key NULL */
void json_string(struct json *j, const char *key, struct kafka_string s); /* null: null */
void json_text(struct json *j, const char *key, const char *s);           /* NULL: null */
void json_number(struct json *j, const char *key, int64_t v);
void json_real(struct json *j, const char *key, double v); /* nine digits; what is no number: null */
void json_bool(struct json *j, const char *key, bool v);
/* A string when the bytes are UTF-8, else {"base64":"..."}; size -1: null. */
void json_bytes(struct json *j, const char *key, const uint8_t *data, int32_t size);

bool utf8_valid(const uint8_t *data, size_t size);
/* As Kafka writes ids: 22 characters of URL-safe base64. */
#define UUID_TEXT_SIZE 23u
void uuid_format(const struct kafka_uuid *u, char out[UUID_TEXT_SIZE]);

/* Writes everything to standard output and empties the buffer. EXIT_DONE; EXIT_NO_READER when nobody reads any more (a
 * closed pipe: the command ends quietly); EXIT_FAILED, with errno's text on stderr. Blocks, never suspends: any thread.
 */
int output_write(struct buf *b, const char *command);

#endif

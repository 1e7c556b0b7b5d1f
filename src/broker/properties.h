/* The format of server.properties: that of java.util.Properties. A line is a key, a separator (blanks, with one '=' or
 * ':' in them) and a value; '#' or '!' begins a comment; a backslash at the end continues the line, its successor's
 * leading blanks dropped; \t \n \r \f \uXXXX and backslash-anything are escapes. Unlike Java's loader, bytes above 127
 * are taken as UTF-8. */
#ifndef OXBOW_BROKER_PROPERTIES_H
#define OXBOW_BROKER_PROPERTIES_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"

struct properties {
    const char *at, *end; /* the text is borrowed */
    unsigned line;        /* of the pair returned last, from 1 */
    unsigned next_line;
    struct buf key, value; /* NUL-terminated */
};
void properties_init(struct properties *p, struct mem *m, const char *text, size_t size);
void properties_deinit(struct properties *p);
/* The next pair; both are borrowed until the next call. ERR_NOT_FOUND: the end. ERR_INVALID: a NUL byte or a malformed
 * \u escape in p->line; *why is a literal. */
enum err properties_next(struct properties *p, const char **key, const char **value, const char **why) WARN_UNUSED;

#endif

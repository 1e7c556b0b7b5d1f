/* What the configuration's parser (config.c), its printer (config_print.c) and memory.c share. */
#ifndef OXBOW_BROKER_CONFIG_PRIV_H
#define OXBOW_BROKER_CONFIG_PRIV_H

#include <stdarg.h>
#include <stdio.h>

#include "broker/config.h"

/* The table in its own order, with what is not a property of its own: section titles and aliases. */
struct config_entry {
    enum { CONFIG_ENTRY_SECTION, CONFIG_ENTRY_PROPERTY, CONFIG_ENTRY_ALIAS } kind;
    const char *name; /* title, or name of the property or alias */
    const char *of;
    int64_t factor;
    uint8_t rank;
};
extern const struct config_entry config_entries[];
extern const size_t config_entry_count;

/* Names of Kafka's properties that are not in the table, with a NULL behind the last. One that ends in '*' stands for all
 * that begin so. */
extern const char *const config_ignored[]; /* accepted so that a server.properties from elsewhere works */
extern const char *const config_refused[]; /* promise protection which is not there: to ignore them would be a lie */

/* "a, b or c" of "a|b|c"; returns out. */
const char *config_choice(const char *values, char *out, size_t out_size);

/* Writes a sentence to *why, cut to fit. */
__attribute__((format(printf, 3, 4))) static inline enum err refuse(char *why, size_t why_size, const char *format,
                                                                    ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return ERR_INVALID;
}

#endif

/* What the configuration's parser (config.c) and its printer (config_print.c) share. */
#ifndef OXBOW_BROKER_CONFIG_PRIV_H
#define OXBOW_BROKER_CONFIG_PRIV_H

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

#endif

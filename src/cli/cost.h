/* What a broker's use of its object store costs: from its metrics page to requests and bytes by operation and purpose, and
 * from those and a table of prices to dollars, beside what Kafka would cost in three zones under the same load. Pure: no
 * input or output. docs/cost.md says how each line of the bill is computed. */
#ifndef OXBOW_CLI_COST_H
#define OXBOW_CLI_COST_H

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

/* --- What was used. Counts are doubles: they are only ever divided and multiplied. */

enum cost_class { COST_CLASS_PUT, COST_CLASS_GET, COST_CLASS_FREE, COST_CLASSES };
enum cost_class cost_class_of(enum store_op op);

/* One look at a metrics page: counters since the process began. */
struct cost_sample {
    double uptime_s;
    double requests[STORE_OPS][STORE_PURPOSES]; /* as they are billed, repeats left out */
    double bytes[STORE_OPS][STORE_PURPOSES];
    double sent[COST_CLASSES]; /* over the wire to S3, repeats and second requests included, that S3 bills */
    bool s3;                   /* there are such */
    double produced_bytes, consumed_bytes;
    double wal_size_bytes;
    double incarnation; /* tells one start of a broker from another */
};
/* False: the text is not a metrics page of a broker that counts these things. */
bool cost_parse(const char *text, size_t size, struct cost_sample *out);

/* What happened between two looks; before NULL: since the start. NULL, or a sentence part that says why that cannot be
 * told. */
const char *cost_between(const struct cost_sample *before, const struct cost_sample *after, struct cost_sample *out);

/* --- Prices and assumptions. */

enum cost_setting {
#define COST_SETTING(id, key, standard, express, unit, what) id,
#include "cli/cost_table.h"
    COST_SETTINGS
};
struct cost_settings {
    double values[COST_SETTINGS];
};
struct cost_setting_row {
    const char *key, *unit, *what;
    double standard, express;
};
extern const struct cost_setting_row cost_setting_rows[COST_SETTINGS];

/* prices: "s3-standard" or "s3-express"; false: neither. */
bool cost_settings_init(struct cost_settings *s, const char *prices);
/* text: "key=number". NULL, or what was expected. */
const char *cost_settings_set(struct cost_settings *s, const char *text);

/* --- The bill. */

enum cost_line {
    COST_LINE_PUTS,
    COST_LINE_GETS,
    COST_LINE_REPEATS, /* of both */
    COST_LINE_TRANSFER,
    COST_LINE_STORAGE,
    COST_LINE_DISKS,
    COST_LINE_REPLICATION,
    COST_LINE_PRODUCERS, /* in another zone */
    COST_LINE_CONSUMERS,
    COST_LINE_INSTANCES,
    COST_LINES
};
extern const char *const cost_line_names[COST_LINES];

struct cost_bill { /* dollars in a month that goes on like this */
    double oxbow[COST_LINES], kafka[COST_LINES];
    double oxbow_total, kafka_total;
    double requests; /* of oxbow_total: what the store bills for requests and bytes moved, and nothing else */
};
void cost_bill_make(const struct cost_sample *used, const struct cost_settings *s, struct cost_bill *out);

/* Dollars for that many requests of a class. */
double cost_of_requests(const struct cost_settings *s, enum cost_class class, double requests);

#endif

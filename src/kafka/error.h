/* Kafka's error codes (error_table.h) and the one table that maps our internal errors to them. */
#ifndef OXBOW_KAFKA_ERROR_H
#define OXBOW_KAFKA_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum kafka_error {
#define X(name, code) KAFKA_##name = code,
#include "kafka/error_table.h"
#undef X
};

/* The code that a client is answered with; internal errors without a meaning in Kafka become UNKNOWN_SERVER_ERROR (-1),
 * and those whose outcome is not known a code that clients retry. */
int16_t kafka_error_of(enum err e);
/* The same for calls that only read (Fetch, ListOffsets): nothing can have been done, so what is unknown becomes
 * KAFKA_STORAGE_ERROR, for consumers retry that and take REQUEST_TIMED_OUT on a partition for a defect. */
int16_t kafka_read_error_of(enum err e);
/* Tells a client that it is wrong about something that a later broker may have moved on: records, producers, groups,
 * topics and their configuration. */
bool kafka_error_accuses(enum err e);
/* "NOT_LEADER_OR_FOLLOWER"; "?" for a code that is not in the table. */
const char *kafka_error_name(int16_t code);

#endif
